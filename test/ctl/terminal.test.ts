import t from 'tap';
import {
  ago,
  columns,
  duration,
  percent,
  plainStyle,
  printable,
  size,
  styleFor,
  took,
} from '../../agent/ctl/terminal.ts';

const ESC = String.fromCharCode(27);

t.test('durations and numbers', async (t) => {
  const seconds: [number, string][] = [
    [0, '0s'],
    [0.9, '0s'],
    [12, '12s'],
    [60, '1m'],
    [185, '3m 5s'],
    [7440, '2h 4m'],
    [3601, '1h'],
    [443_000, '5d 3h'],
    [-5, '0s'],
  ];
  for (const [value, text] of seconds) t.equal(duration(value * 1000), text, `${value} s`);
  t.equal(ago(null, 0), 'never');
  t.equal(ago(5000, 17_000), '12s ago');
  t.same([0.04, 9.96, 21.4, 1449].map(took), ['0.0 ms', '10.0 ms', '21 ms', '1.4 s']);
  t.same([512, 4300, 4_400_000].map(size), ['512 B', '4.2 KiB', '4.2 MiB']);
  t.same([100, 100 / 3, 0.1, 0.02].map(percent), ['100 %', '33.3 %', '0.1 %', '<0.1 %']);
});

t.test('columns are aligned by what is seen', async (t) => {
  const red = `${ESC}[31mab${ESC}[39m`;
  t.equal(columns([['a', red, 'x'], ['bcd', 'e', ''], ['f']]), `  a    ${red}  x\n  bcd  e\n  f\n`);
  t.equal(columns([]), '');
});

t.test('colours are for terminals', async (t) => {
  t.equal(styleFor({ isTTY: true }, {})('red', 'x'), `${ESC}[31mx${ESC}[39m`);
  t.equal(styleFor({ isTTY: true }, { NO_COLOR: '' })('red', 'x'), `${ESC}[31mx${ESC}[39m`);
  t.equal(styleFor({ isTTY: true }, { NO_COLOR: '1' })('red', 'x'), 'x');
  t.equal(styleFor({}, {}), plainStyle);
});

t.test('objects cannot speak to the terminal', async (t) => {
  t.equal(printable(`a${ESC}[2Jb\u009b\nc\u202e`), 'a?[2Jb??c?');
  t.equal(printable('größe 3 €'), 'größe 3 €');
});
