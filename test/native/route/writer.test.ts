// Addresses in batches on a link, dummy links where the kernel has them, and what is made of refusals.
import { spawnSync } from 'node:child_process';
import t from 'tap';
import { NetlinkError } from '../../../native/netlink/error.ts';
import { RouteWriter } from '../../../native/route/writer.ts';
import { enterNamespace } from '../../support/own-namespace.ts';
import { until } from '../../support/test-node.ts';

const skip = (await enterNamespace(t)) ? false : 'no namespace';

function ip(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync('ip', args, { encoding: 'utf8', maxBuffer: 1 << 26 });
  if (status !== 0) throw new Error(`ip ${args.join(' ')}: ${stderr.trim()}`);
  return stdout;
}

/** A link that is down; it goes with the test. */
function linkDown(t: { teardown(act: () => void): void }, writer: RouteWriter, name: string): number {
  ip('link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}-peer`);
  t.teardown(() => writer.deleteLink(name));
  return writer.linkIndex(name)!;
}

function opened(t: { teardown(act: () => void): void }): RouteWriter {
  const writer = new RouteWriter();
  t.teardown(() => writer.close());
  return writer;
}

const shown = (link: string): string[] =>
  ip('-o', 'addr', 'show', 'dev', link)
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.replace(/^\d+: +\S+ +/, '').replace(/ *\\.*$/, ''));

const textsOf = (writer: RouteWriter, index: number): string[] => writer.addresses(index).map(({ ip }) => ip);

t.test('links by name', { skip }, async (t) => {
  const writer = opened(t);
  t.equal(writer.linkIndex('lo'), 1);
  t.equal(writer.linkIndex('none'), null);
  const index = linkDown(t, writer, 'k0');
  t.match(ip('-o', 'link', 'show', 'k0'), new RegExp(`^${index}: k0`));
  t.equal(writer.deleteLink('k0'), true);
  t.equal(writer.deleteLink('k0'), false);
  t.equal(writer.linkIndex('k0'), null);
  t.throws(() => writer.linkIndex('a-name-longer-than-15'), NetlinkError);
});

t.test('addresses come and go', { skip }, async (t) => {
  const writer = opened(t);
  const index = linkDown(t, writer, 'k1');
  t.strictSame(textsOf(writer, index), []);
  const wanted = ['10.96.0.1', '10.96.0.10', 'fd00:96::1', 'fd00:96::a'];
  t.strictSame(await writer.addAddresses(index, wanted), []);
  t.strictSame(textsOf(writer, index).sort(), wanted);
  t.strictSame(shown('k1').sort(), [
    'inet 10.96.0.1/32 scope global k1',
    'inet 10.96.0.10/32 scope global k1',
    'inet6 fd00:96::1/128 scope global nodad deprecated',
    'inet6 fd00:96::a/128 scope global nodad deprecated',
  ]);
  t.match(ip('-o', 'addr', 'show', 'dev', 'k1'), /fd00:96::a\/128 .* valid_lft forever preferred_lft 0sec/);
  t.match(ip('-o', 'link', 'show', 'k1'), 'state DOWN');
  t.match(ip('route', 'show', 'table', 'local'), 'local 10.96.0.10 dev k1', 'local although the link is down');
  t.strictSame(textsOf(writer, 1).sort(), ['127.0.0.1', '::1'], 'of one link only');

  t.strictSame(await writer.addAddresses(index, ['10.96.0.1', '10.96.0.2', 'fd00:96::1']), [], 'bound already');
  t.strictSame(await writer.deleteAddresses(index, ['10.96.0.2', '10.96.0.3', 'fd00:96::1', 'fd00:96::9']), []);
  t.strictSame(textsOf(writer, index).sort(), ['10.96.0.1', '10.96.0.10', 'fd00:96::a']);
  t.strictSame(await writer.deleteAddresses(index, []), []);
});

t.test('failures name the address', { skip }, async (t) => {
  const writer = opened(t);
  const index = linkDown(t, writer, 'k2');
  const ips = ['10.96.0.1', '10.96.0.256', 'ff02::1', '10.96.0.2', '127.0.0.256'];
  const failures = await writer.addAddresses(index, ips);
  t.strictSame(
    failures.map((failure) => [failure.ip, failure.error.code]),
    [
      ['10.96.0.256', 'EINVAL'],
      ['127.0.0.256', 'EINVAL'],
      ['ff02::1', 'EADDRNOTAVAIL'],
    ],
  );
  t.match(failures[0]!.error.message, 'add address 10.96.0.256: EINVAL (no IP address)');
  t.strictSame(textsOf(writer, index), ['10.96.0.1', '10.96.0.2'], 'the others are bound');

  const [gone] = await writer.addAddresses(9999, ['10.96.0.1']);
  t.equal(gone!.error.code, 'ENODEV');
  t.throws(() => writer.addresses(9999), { code: 'ENODEV' });
});

t.test('thousands of addresses', { skip }, async (t) => {
  const writer = opened(t);
  const index = linkDown(t, writer, 'k3');
  let turns = 0;
  const count = setInterval(() => turns++, 1);
  t.teardown(() => clearInterval(count));
  const timed = async <T>(name: string, act: () => T | Promise<T>): Promise<T> => {
    const from = performance.now();
    turns = 0;
    const result = await act();
    t.comment(`${name}: ${Math.round(performance.now() - from)} ms, ${turns} turns of a timer`);
    return result;
  };
  const four = Array.from({ length: 2000 }, (_, n) => `10.96.${n >> 8}.${n & 255}`);
  const six = Array.from({ length: 2000 }, (_, n) => `fd00:96::${(n + 1).toString(16)}`);
  t.strictSame(await timed('add 2,000 of IPv4', () => writer.addAddresses(index, four)), []);
  t.strictSame(await timed('add 2,000 of IPv6', () => writer.addAddresses(index, six)), []);
  t.ok(turns > 0, 'the event loop had turns');
  const found = await timed('list 4,000', () => textsOf(writer, index));
  t.strictSame(new Set(found), new Set([...four, ...six]));
  t.equal(found.length, 4000);
  t.strictSame(await timed('delete 500 of IPv4', () => writer.deleteAddresses(index, four.slice(0, 500))), []);
  t.strictSame(await timed('delete 500 of IPv6', () => writer.deleteAddresses(index, six.slice(0, 500))), []);
  t.strictSame(new Set(textsOf(writer, index)), new Set([...four.slice(500), ...six.slice(500)]));
  t.ok(await timed('delete the link with 3,000', () => writer.deleteLink('k3')));
});

t.test('nothing is asked while addresses are being changed', { skip }, async (t) => {
  const writer = opened(t);
  const index = linkDown(t, writer, 'k4');
  const change = writer.addAddresses(index, ['10.96.0.1']);
  t.throws(() => writer.linkIndex('lo'), { message: /asked for something while a batch is under way/ });
  t.strictSame(await change, []);
  t.equal(writer.linkIndex('lo'), 1);
});

t.test('the source of what the node sends to its addresses', { skip }, async (t) => {
  const writer = opened(t);
  const index = linkDown(t, writer, 'k5');
  linkDown(t, writer, 'uplink');
  ip('link', 'set', 'uplink', 'up');
  ip('addr', 'add', '192.0.2.2/24', 'dev', 'uplink');
  ip('addr', 'add', 'fd00:2::2/64', 'dev', 'uplink', 'nodad');
  const [four, six] = [
    ['10.96.0.1', '10.96.0.2'],
    ['fd00:96::1', 'fd00:96::2'],
  ];
  await writer.addAddresses(index, [...four, ...six]);
  const source = (to: string): string => / src (\S+)/.exec(ip('route', 'get', to))?.[1] ?? '';
  const local = (): string[] =>
    [...ip('route', 'show', 'table', 'local').split('\n'), ...ip('-6', 'route', 'show', 'table', 'local').split('\n')]
      .filter((line) => /^local (10\.96|fd00:96)/.test(line))
      .map((line) => line.split(' ')[1]!);
  // The kernel makes the routes of IPv6 addresses a moment after them.
  await until('all have local routes', () => local().length === four.length + six.length);
  t.strictSame([...four, ...six].map(source), [...four, ...six]);

  t.strictSame(await writer.setSources(index, four, '192.0.2.2'), []);
  t.strictSame(await writer.setSources(index, six, 'fd00:2::2'), []);
  const chosen = ['192.0.2.2', '192.0.2.2', 'fd00:2::2', 'fd00:2::2'];
  t.strictSame([...four, ...six].map(source), chosen);
  t.strictSame(local(), [...four, ...six], 'they are local as before');
  t.strictSame(await writer.setSources(index, [...four], '192.0.2.2'), [], 'a second time');
  t.strictSame(await writer.setSources(index, six, 'fd00:2::2'), []);
  const [refused] = await writer.setSources(index, ['10.96.0.1'], '198.51.100.1');
  t.match(refused!.error.message, /^route 10\.96\.0\.1: EINVAL/, 'no address of this node');

  writer.deleteLink('k5');
  t.strictSame(await writer.deleteSources(six), []);
  t.strictSame(await writer.deleteSources(six), [], 'none is left');
  t.strictSame(local(), []);
});

/** Why there can be no dummy link, or false. */
function noDummy(): string | false {
  if (skip !== false) return skip;
  if (spawnSync('ip', ['link', 'add', 'probe0', 'type', 'dummy']).status !== 0) return 'this kernel has no dummy links';
  ip('link', 'del', 'probe0');
  return false;
}

t.test('a dummy link', { skip: noDummy() }, async (t) => {
  const writer = opened(t);
  const index = writer.createDummy('kube-test0');
  t.equal(writer.linkIndex('kube-test0'), index);
  t.match(ip('-d', '-o', 'link', 'show', 'kube-test0'), /state DOWN.* dummy /);
  t.equal(writer.createDummy('kube-test0'), index, 'one that exists is taken');
  t.strictSame(await writer.addAddresses(index, ['10.96.0.1', 'fd00:96::1']), []);
  t.strictSame(textsOf(writer, index), ['10.96.0.1', 'fd00:96::1']);
  t.equal(writer.deleteLink('kube-test0'), true);
  t.equal(writer.linkIndex('kube-test0'), null);
});
