// The test network itself: reachability, what a refusal and a silence look like, cleaning up, and unprivileged use.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import type { Attempt, Proto } from './host-calls.ts';
import { inUserNamespace, namespaceName, namespacesMissing } from './namespaces.ts';
import { createNetwork, type Network } from './network.ts';

const missing = await namespacesMissing();
const skip = missing ?? false;
const FAMILIES = ['IPv4', 'IPv6'] as const;
const PROTOS: readonly Proto[] = ['TCP', 'UDP'];
const SUPPORT = fileURLToPath(new URL('.', import.meta.url));

const PODS = [
  { name: 'pod-a', ip: ['10.128.4.30', 'fd00:10:128:4::30'], local: true },
  { name: 'pod-b', ip: ['10.128.7.40', 'fd00:10:128:7::40'], local: false },
] as const;
const CLIENTS = [{ name: 'client', ip: ['172.18.0.100', 'fd00:172:18::100'] }] as const;

const outcome = (attempt: Attempt): string =>
  attempt.outcome === 'answered' ? `${attempt.host}:${attempt.port} saw ${attempt.peer}` : attempt.outcome;

t.test('a network', { skip }, async (t) => {
  const before = performance.now();
  const net: Network = await createNetwork({ pods: PODS, clients: CLIENTS, moreNodeIps: ['172.18.0.22'] });
  t.teardown(() => net.close());
  t.comment(`created in ${Math.round(performance.now() - before)} ms`);
  const hosts = ['node', 'remote', 'pod-a', 'pod-b', 'client'];
  for (const name of ['pod-a', 'pod-b', 'node']) {
    for (const family of FAMILIES) {
      for (const proto of PROTOS)
        await net.host(name).call('listen', { proto, ip: net.host(name).ip(family), port: 80 });
    }
  }

  net.exec(
    'node',
    ['nft', '-f', '-'],
    `table inet refusals {
      chain forward {
        type filter hook forward priority 0
        ip daddr 10.96.0.2 reject with icmp type port-unreachable
        ip6 daddr fd00:96::2 reject with icmpv6 type port-unreachable
        ip daddr 10.96.0.3 drop
        ip6 daddr fd00:96::3 drop
      }
    }\n`,
  );

  t.test('everybody reaches everybody from its own address', async (t) => {
    for (const from of hosts) {
      for (const to of ['pod-a', 'pod-b', 'node']) {
        for (const family of FAMILIES) {
          for (const proto of PROTOS) {
            const attempt = await net.host(from).dial({ proto, ip: net.host(to).ip(family), port: 80 });
            t.equal(
              outcome(attempt),
              `${to}:80 saw ${net.host(from).ip(family)}`,
              `${from} to ${to}, ${family} ${proto}`,
            );
          }
        }
      }
    }
  });

  t.test('unhandled, refused and dropped can be told apart', async (t) => {
    const cases = [
      { ip: ['10.96.0.1', 'fd00:96::1'], expect: 'unreachable' },
      { ip: ['10.96.0.2', 'fd00:96::2'], expect: 'refused' },
      { ip: ['10.96.0.3', 'fd00:96::3'], expect: 'timeout' },
    ];
    await Promise.all(
      cases.flatMap(({ ip, expect }) =>
        ip.flatMap((address) =>
          PROTOS.map(async (proto) => {
            const attempt = await net.host('client').dial({ proto, ip: address, port: 80 });
            t.equal(outcome(attempt), expect, `${proto} ${address}`);
          }),
        ),
      ),
    );
    const closed = await net.host('client').dial({ proto: 'TCP', ip: PODS[0].ip[0], port: 81 });
    t.equal(outcome(closed), 'refused', 'nothing listens');
  });

  t.test('several attempts, from a wanted source', async (t) => {
    const target = { proto: 'TCP', ip: PODS[0].ip[0], port: 80 } as const;
    const attempts = await net.host('node').call('connect', { ...target, source: '172.18.0.22', count: 20, width: 5 });
    t.strictSame([...new Set(attempts.map(outcome))], ['pod-a:80 saw 172.18.0.22']);
    t.equal(attempts.length, 20);
    const fixed = await net.host('client').dial({ ...target, sourcePort: 4321 });
    t.match(fixed, { peerPort: 4321 });
  });

  for (const proto of PROTOS) {
    t.test(`a ${proto} flow that stays`, async (t) => {
      const pod = net.host('pod-a');
      const ip = pod.ip('IPv4');
      await pod.call('listen', { proto, ip, port: 90 });
      const client = net.host('client');
      const { flow, first } = await client.call('open', { proto, ip, port: 90 });
      const next = await client.call('say', { flow });
      t.equal(outcome(first), 'pod-a:90 saw 172.18.0.100');
      t.match(next, { host: 'pod-a', peerPort: (first as { peerPort: number }).peerPort }, 'the same flow');
      await pod.call('unlisten', { proto, ip, port: 90, cut: true });
      const expect = proto === 'TCP' ? 'reset' : 'refused';
      t.equal(outcome(await client.call('say', { flow })), expect, 'its server is gone');
      await client.call('close', { flow });
      await t.rejects(client.call('say', { flow }), { message: `client: say: client: no flow ${flow}` });
    });

    t.test(`a steady ${proto} load`, async (t) => {
      const pod = net.host('pod-b');
      const { port } = await pod.call('listen', { proto, ip: pod.ip('IPv6'), port: 0, closes: true });
      const targets = [
        { proto, ip: pod.ip('IPv6'), port },
        { proto, ip: pod.ip('IPv6'), port: 81 },
      ];
      const client = net.host('client');
      const { load } = await client.call('startLoad', { targets, width: 8, perSecond: 1000, keepDetails: true });
      let counters = await client.call('loadCounters', { load });
      while (counters.attempts < 100) counters = await client.call('loadCounters', { load });
      const result = await client.call('stopLoad', { load });
      const seconds = (result.endedAt - result.startedAt) / 1000;
      t.ok(result.attempts >= 100 && result.attempts <= seconds * 1000 + 1, `${result.attempts} in ${seconds} s`);
      t.strictSame(Object.keys(result.results).sort(), [`pod-b:${port}`, 'refused']);
      t.equal(result.answered, result.results[`pod-b:${port}`]);
      const details = result.details!;
      t.equal(details.startedAt.length, result.attempts);
      for (const [row, index] of details.target.entries()) {
        if (details.texts[details.result[row]!] !== (index === 0 ? `pod-b:${port}` : 'refused')) t.fail(`row ${row}`);
      }
      t.ok(details.startedAt.every((at) => at >= result.startedAt && at <= result.endedAt));
    });
  }

  t.test('programs run in the host asked for', async (t) => {
    t.match(net.exec('pod-a', ['ip', '-o', 'addr']), '10.128.4.30/32');
    t.throws(() => net.exec('node', ['ip', 'link', 'show', 'nothing']), { message: /on node ended with 1: .*nothing/ });
    t.equal(net.tryExec('node', ['cat'], 'input').stdout, 'input');
    const child = net.spawn('client', ['ip', '-o', 'addr'], { stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    for await (const chunk of child.stdout!) text += chunk;
    t.match(text, '172.18.0.100/16');
    const [inside, outside] = [net.within('node', ownNamespace), ownNamespace()];
    t.not(inside, outside);
    t.throws(() => net.host('nobody'), { message: 'no host "nobody" in the network' });
  });

  t.test('a host that ends fails its calls', async (t) => {
    const client = net.host('client');
    const call = client.call('open', { proto: 'UDP', ip: '10.96.0.3', port: 1, timeoutMs: 60_000 });
    const failed = t.rejects(call, { message: /host client ended: SIGKILL/ });
    await client.stop();
    await failed;
    t.equal(
      outcome(await client.dial({ proto: 'TCP', ip: PODS[0].ip[0], port: 80 })),
      'pod-a:80 saw 172.18.0.100',
      'and starts anew',
    );
  });
});

function ownNamespace(): string {
  return readlinkSync('/proc/thread-self/ns/net');
}

t.test('names and addresses are checked', { skip }, async (t) => {
  const cases = [
    { name: 'taken', pods: [{ name: 'node', ip: [], local: true }], message: /"node" is taken/ },
    { name: 'too long', pods: [{ name: 'a-long-pod-name', ip: [], local: true }], message: /1 to 10/ },
    { name: 'two of a family', pods: [{ name: 'a', ip: ['1.2.3.4', '1.2.3.5'], local: true }], message: /one family/ },
  ];
  for (const { name, pods, message } of cases) await t.rejects(createNetwork({ pods }), { message }, name);
  const wrong = createNetwork({ clients: [{ name: 'client', ip: ['172.18.0.300'] }] });
  await t.rejects(wrong, { message: /172\.18\.0\.300/ }, 'a failure half-way');
  t.strictSame(namespacesOf(process.pid), [], 'leaves nothing behind');
});

function namespacesOf(pid: number): string[] {
  return existsSync('/run/netns')
    ? readdirSync('/run/netns').filter((name) => name.startsWith(`kubeplumb-${pid}-`))
    : [];
}

/** A program that creates a network with a running host, says so, and runs `ending`. */
const program = (ending: string): string[] => [
  '--input-type=module',
  '--eval',
  `import { createNetwork } from '${SUPPORT}network.ts';
   const net = await createNetwork({ clients: [{ name: 'client', ip: ['172.18.0.100'] }] });
   await net.host('client').dial({ proto: 'TCP', ip: '172.18.0.2', port: 1 });
   console.log(process.pid, net.host('client').pid);
   ${ending}`,
];

t.test('nothing is left behind', { skip }, async (t) => {
  const cases = [
    { name: 'exit', ending: 'process.exit(3)', signal: null, code: 3 },
    { name: 'an exception', ending: 'throw new Error("as wanted")', signal: null, code: 1 },
    { name: 'SIGTERM', ending: 'setInterval(() => {}, 1000)', signal: 'SIGTERM', code: 143 },
    { name: 'SIGINT', ending: 'setInterval(() => {}, 1000)', signal: 'SIGINT', code: 130 },
  ] as const;
  for (const { name, ending, signal, code } of cases) {
    const child = spawn(process.execPath, program(ending), { stdio: ['ignore', 'pipe', 'ignore'] });
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
    let text = '';
    for await (const chunk of child.stdout) {
      text += chunk;
      if (signal && text.includes('\n')) child.kill(signal);
    }
    t.equal(await ended, code, `${name}: exit code`);
    const [pid, host] = text.trim().split(' ').map(Number);
    t.strictSame(namespacesOf(pid!), [], `${name}: no namespace`);
    await gone(host!);
    t.pass(`${name}: no process`);
  }
});

/** Waits for the end of a process that is no child; the test's time limit is the limit. */
async function gone(pid: number): Promise<void> {
  while (existsSync(`/proc/${pid}/ns/net`)) {
    try {
      readlinkSync(`/proc/${pid}/ns/net`);
    } catch {
      return;
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
}

t.test('what a killed process left is swept by the next', { skip }, async (t) => {
  const child = spawn(process.execPath, program('process.kill(process.pid, "SIGKILL")'), {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  let text = '';
  for await (const chunk of child.stdout) text += chunk;
  await ended;
  const [pid, host] = text.trim().split(' ').map(Number);
  t.equal(pid, child.pid);
  t.ok(namespacesOf(pid!).length > 0, 'it could not clean up');
  await gone(host!);
  t.pass('its host ended by itself');
  spawnSync(process.execPath, program(''), { stdio: 'ignore' });
  t.strictSame(namespacesOf(pid!), []);
});

const noUser = inUserNamespace() || process.getuid?.() !== 0;
t.test('an ordinary user', { skip: skip || (noUser ? 'is what this test runs as' : false) }, async (t) => {
  const nobody = ['--reuid=65534', '--regid=65534', '--clear-groups', '--'];
  const script = `import { inUserNamespace, namespacesMissing } from '${SUPPORT}namespaces.ts';
    import { createNetwork } from '${SUPPORT}network.ts';
    const missing = await namespacesMissing();
    if (missing !== null) { console.log('missing', missing); process.exit(0); }
    const net = await createNetwork({ pods: [{ name: 'pod-a', ip: ['10.128.4.30'], local: true }] });
    await net.host('pod-a').call('listen', { proto: 'TCP', ip: '10.128.4.30', port: 80 });
    const { outcome, peer } = await net.host('node').dial({ proto: 'TCP', ip: '10.128.4.30', port: 80 });
    net.exec('node', ['nft', 'add', 'table', 'inet', 'kubeplumb']);
    console.log(inUserNamespace(), outcome, peer, process.argv[1]);
    await net.close();
    process.exitCode = 7;`;
  const run = spawnSync('setpriv', [...nobody, process.execPath, '--input-type=module', '--eval', script, 'argument'], {
    encoding: 'utf8',
    cwd: '/',
  });
  t.equal(run.stdout, 'true answered 172.18.0.2 argument\n');
  t.equal(run.status, 7, 'the exit code comes through');

  const reason = (...around: string[]): string =>
    spawnSync('setpriv', [...nobody, ...around, process.execPath, '--input-type=module', '--eval', script], {
      encoding: 'utf8',
      cwd: '/',
    }).stdout;
  t.equal(reason('env', 'PATH=/nowhere'), 'missing needs network namespaces: no program "ip"\n');
  const forbidden = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"';
  t.match(
    reason('unshare', '-Ur', 'sh', '-c', forbidden, 'sh'),
    /^missing needs network namespaces: .+; and no user namespace: .+/,
    'said with the reason when they are forbidden',
  );
  t.equal(namespaceName('x'), `kubeplumb-${process.pid}-x`);
});
