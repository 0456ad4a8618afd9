// Plays `docker` and `kind`, which its first argument says, for kind.test.ts: containers are network namespaces that exist.
// FAKE_LOG is a file for the command lines, FAKE_KUBECONFIG what kind hands out, FAKE_ADDRESSES the addresses of containers as
// JSON by the end of their names, FAKE_OUTSIDE the file of the network namespace outside.
import { spawnSync } from 'node:child_process';
import { appendFileSync, copyFileSync, readFileSync } from 'node:fs';

const { FAKE_LOG, FAKE_KUBECONFIG, FAKE_ADDRESSES, FAKE_OUTSIDE } = process.env;
const [program, ...args] = process.argv.slice(2);
const input = args.at(-1) === '-' ? readFileSync(0, 'utf8') : '';
appendFileSync(FAKE_LOG, `${program} ${args.join(' ')} ${input}\n`);

const GET = 'fetch(process.argv[1]).then((r) => r.text()).then((text) => process.stdout.write(text))';

if (program === 'kind' && args[0] === 'create') copyFileSync(FAKE_KUBECONFIG, args[args.indexOf('--kubeconfig') + 1]);
if (program === 'docker' && args[0] === 'inspect') {
  const [, ips] = Object.entries(JSON.parse(FAKE_ADDRESSES)).find(([end]) => args.at(-1).endsWith(end));
  // Docker 29 says so of an address that is missing.
  console.log(`${ips.join(' ')} invalid IP`);
}
if (program === 'docker' && ['stop', 'start'].includes(args[0])) {
  const [status, reason] = args[0] === 'stop' ? ['Unknown', 'NodeStatusUnknown'] : ['True', 'KubeletReady'];
  const patch = JSON.stringify({ status: { conditions: [{ type: 'Ready', status, reason, message: '' }] } });
  const command = ['patch', 'node', args[1], '--subresource=status', '--type=merge', '--patch', patch];
  process.exitCode = spawnSync('kubectl', [`--kubeconfig=${FAKE_KUBECONFIG}`, ...command]).status ?? 1;
}
if (program === 'docker' && args[0] === 'exec' && args[2] === 'curl') {
  const command = [`--net=${FAKE_OUTSIDE}`, process.execPath, '--eval', GET, args.at(-1)];
  process.exitCode = spawnSync('nsenter', command, { stdio: 'inherit' }).status ?? 1;
}
