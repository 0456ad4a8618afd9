// Starting programs: input, output, limits, and which program it is.
import t from 'tap';
import { findTool, type RunTool, ToolMissing, toolRunner } from '../../../backends/iptables/run-tool.ts';
import { failedLines } from '../../../backends/iptables/tool-refusal.ts';
import { ToolRules } from '../../../backends/iptables/tool-rules.ts';

const run = toolRunner();

t.test('input and output', async (t) => {
  const lines: string[] = [];
  const input = ['one\ntw', 'o\n', 'x'.repeat(300_000), '\nend'];
  t.strictSame(await run({ program: 'cat', args: [], input, line: (line) => lines.push(line) }), {
    status: 0,
    stderr: '',
  });
  t.strictSame(lines, ['one', 'two', 'x'.repeat(300_000), 'end']);
  t.strictSame(await run({ program: 'sh', args: ['-c', 'echo so >&2; exit 3'] }), { status: 3, stderr: 'so' });
  const many = Array.from({ length: 500 }, () => 'x'.repeat(10_000));
  t.match(await run({ program: 'sh', args: ['-c', 'exit 2'], input: many }), { status: 2 }, 'it reads nothing');
});

t.test('failures', async (t) => {
  await t.rejects(run({ program: 'no-such-program', args: [] }), {
    name: 'ToolMissing',
    message: 'no program "no-such-program"',
  });
  const soon = toolRunner({ milliseconds: 50, output: 1000 });
  await t.rejects(soon({ program: 'sleep', args: ['60'] }), /^sleep: no end after 0\.05 s/);
  const bounded = toolRunner({ milliseconds: 60_000, output: 100_000 });
  await t.rejects(bounded({ program: 'yes', args: [] }), /yes: more than 100000 characters of output/);
  function* broken(): Generator<string> {
    yield 'one\n';
    throw new Error('cannot be told');
  }
  await t.rejects(run({ program: 'cat', args: [], input: broken() }), /cannot be told/);
  const refuse = (): never => {
    throw new Error('no such line');
  };
  await t.rejects(run({ program: 'echo', args: ['x'], line: refuse }), /echo: no such line/);
});

const versions =
  (known: Record<string, string>): RunTool =>
  async ({ program, line }) => {
    const text = known[program];
    if (text === undefined) throw new ToolMissing(program, null);
    line?.(text);
    return { status: 0, stderr: '' };
  };

t.test('which program', async (t) => {
  const debian = versions({
    iptables: 'iptables v1.8.9 (nf_tables)',
    'iptables-nft': 'iptables v1.8.9 (nf_tables)',
    'iptables-legacy': 'iptables v1.8.9 (legacy)',
  });
  const legacy = await findTool(debian, 'legacy', 'IPv4');
  t.equal(legacy.program('-restore'), 'iptables-legacy-restore');
  t.equal(legacy.version, '1.8.9');
  await t.rejects(findTool(debian, 'nft', 'IPv6'), /no program "ip6tables-nft"/);
  const one = versions({ ip6tables: 'ip6tables v1.8.4 (nf_tables)', iptables: 'iptables v1.6.2' });
  t.equal((await findTool(one, 'nft', 'IPv6')).program('-save'), 'ip6tables-save');
  await t.rejects(findTool(one, 'legacy', 'IPv6'), /no program "ip6tables-legacy"/);
  t.equal((await findTool(one, 'legacy', 'IPv4')).program(''), 'iptables');
  await t.rejects(findTool(versions({ iptables: 'iptables v1.4.21' }), 'legacy', 'IPv4'), /1\.4\.21; 1\.6\.2 or newer/);
});

t.test('words of the tools', async (t) => {
  t.strictSame(failedLines('iptables-restore: line 12 failed'), new Map([[12, '']]));
  t.strictSame(
    failedLines(
      'iptables-nft-restore v1.8.9 (nf_tables): \nline 3: RULE_APPEND failed (No such file): rule in chain A\nline 9: CHAIN_DEL failed (Device or resource busy): chain B',
    ),
    new Map([
      [3, 'RULE_APPEND failed (No such file): rule in chain A'],
      [9, 'CHAIN_DEL failed (Device or resource busy): chain B'],
    ]),
  );
  t.strictSame(
    failedLines(
      "iptables-restore v1.8.9 (legacy): invalid port/service `x' specified\nError occurred at line: 4\nTry `iptables-restore -h'",
    ),
    new Map([[4, "invalid port/service `x' specified"]]),
  );
  t.equal(failedLines('Another app is currently holding the xtables lock').size, 0);
});

t.test('the lock is held by others; the tool is missing', async (t) => {
  const answer =
    (status: number, stderr: string): RunTool =>
    async ({ program, args, line }) => {
      if (args[0] !== '--version') return { status, stderr };
      line?.(`${program} v1.8.9 (legacy)`);
      return { status: 0, stderr: '' };
    };
  const changes = [{ family: 'IPv4' as const, tables: ['nat' as const] }];
  const locked = new ToolRules({
    variant: 'legacy',
    run: answer(4, 'Another app is currently holding the xtables lock'),
  });
  await t.rejects(
    locked.commit(changes),
    /iptables-legacy-restore: exit code 4 \(a resource or the lock .*Another app/,
  );
  const odd = new ToolRules({ variant: 'legacy', run: answer(1, 'iptables-restore: line 99 failed') });
  await t.rejects(odd.commit(changes), /exit code 1: iptables-restore: line 99 failed/, 'a line that was not sent');
  const missing = new ToolRules({ variant: 'legacy', run: versions({}), legacyTables: () => ['nat'] });
  t.equal(await missing.probe('IPv6'), 'no program "ip6tables-legacy"');
  await t.rejects(missing.read('IPv6'), /no program "ip6tables-legacy"/);
  const nowhere = new ToolRules({ variant: 'legacy', run: versions({}), legacyTables: () => [] });
  t.strictSame((await nowhere.read('IPv6')).tables, new Map(), 'no tables: the tool is not needed');
});
