// text of the probabilities of a random choice, and of single ones.
import assert from 'node:assert/strict';
import { probabilityText } from '../../../backends/iptables/probability.ts';
import type { Vector } from '../vector.ts';

export function run({ input, expect }: Vector): void {
  if (input.denominators !== undefined) {
    assert.deepEqual(input.denominators.map(probabilityText), expect.values);
    return;
  }
  const { endpoints }: { endpoints: number } = input;
  const found = Array.from({ length: endpoints }, (_, i) =>
    i === endpoints - 1 ? null : probabilityText(endpoints - i),
  );
  assert.deepEqual(found, expect.probabilities);
}
