// I-22: texts of probabilities and the numbers the kernel makes of them.
import t from 'tap';
import {
  probabilityText,
  probabilityThreshold,
  thresholdOf,
  thresholdText,
} from '../../../backends/iptables/probability.ts';

t.test('numbers of the kernel', async (t) => {
  t.equal(probabilityThreshold(2), 0x40000000);
  t.equal(probabilityThreshold(3), 0x2aaaaaab);
  t.equal(thresholdText(0x2aaaaaab, 11), '0.33333333349', 'as iptables-save prints it');
  t.equal(thresholdText(0x40000000, 11), '0.50000000000');
});

t.test('what lies exactly in the middle goes to the even digit', async (t) => {
  t.equal(probabilityText(2048), '0.0004882812');
  t.equal(thresholdText(2 ** 19, 11), '0.00024414062');
  t.equal(thresholdText(3 * 2 ** 19, 11), '0.00073242188');
});

t.test('every text is read back as the same number', async (t) => {
  const wrong: number[] = [];
  for (let n = 2; n <= 5000; n++) {
    const threshold = probabilityThreshold(n);
    const same = [probabilityText(n), thresholdText(threshold, 10), thresholdText(threshold, 11)];
    if (!same.every((text) => thresholdOf(text) === threshold)) wrong.push(n);
  }
  t.same(wrong, []);
});

t.test('endpoints of a large Service are equally likely', async (t) => {
  const count = 1000;
  let left = 1;
  let worst = 0;
  for (let n = count; n > 1; n--) {
    const share = left * (probabilityThreshold(n) / 2 ** 31);
    left -= share;
    worst = Math.max(worst, Math.abs(share * count - 1));
  }
  t.ok(worst < 1e-6, `${worst}`);
});
