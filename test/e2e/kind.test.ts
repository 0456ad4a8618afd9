// A run with kind creates a cluster, deploys, checks from outside, restarts a node and deletes everything, also as commands
// go. Docker and kind are played (fake-containers.mjs), the API server is real.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { Netexec } from '../../e2e/cluster/namespaces/netexec.ts';
import { LAN_IPS, NODES, OUTSIDE_IPS } from '../../e2e/cluster/namespaces/topology.ts';
import { NODE_CLIENT_PORT } from '../../e2e/cluster/pod-manifests.ts';
import { controlPlaneMissing } from '../support/control-plane.ts';
import { namespaceName, namespacesMissing } from '../support/namespaces.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { scaled } from '../support/time-scale.ts';
import { startPlayedCluster } from './played-cluster.ts';

const CHECKS = ['a load balancer with', 'loadBalancerSourceRanges', 'agents are upgraded', 'a node restarts'];

t.setTimeout(scaled(400_000));
const reason = (await namespacesMissing(['ip', 'nft', 'nsenter'])) ?? controlPlaneMissing();

/** So that the suite has something to wait for; runs as any Deployment here. */
const COREDNS = {
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'coredns', namespace: 'kube-system' },
  spec: {
    replicas: 1,
    selector: { matchLabels: { app: 'dns' } },
    template: {
      metadata: { labels: { app: 'dns' } },
      spec: { containers: [{ name: 'dns', image: 'dns', args: ['--http-port=8080', '--udp-port=53'] }] },
    },
  },
};

t.test('npm run e2e with kind', { skip: reason ?? false, timeout: 0 }, async (t) => {
  const cluster = await startPlayedCluster(t);
  const path = '/apis/apps/v1/namespaces/kube-system/deployments/coredns?fieldManager=test';
  await cluster.call('PATCH', path, 'application/apply-patch+yaml', COREDNS);
  const outside = new Netexec('outside', { name: 'outside', httpPort: NODE_CLIENT_PORT, udpPort: 0, timeoutMs: 1500 });
  t.teardown(() => outside.stop());
  await outside.ready;

  const folder = temporaryFolder();
  const fake = fileURLToPath(new URL('./fake-containers.mjs', import.meta.url));
  mkdirSync(join(folder, 'bin'));
  for (const name of ['docker', 'kind']) {
    // Without what runs tests puts into the options of each child.
    const script = `#!/bin/sh\nNODE_OPTIONS= exec '${process.execPath}' '${fake}' ${name} "$@"\n`;
    writeFileSync(join(folder, 'bin', name), script, { mode: 0o755 });
  }
  const log = join(folder, 'log');
  const addresses = {
    '-control-plane': LAN_IPS,
    '-worker': NODES[0]!.ips,
    '-outside': OUTSIDE_IPS,
  };
  const env = {
    PATH: `${join(folder, 'bin')}${delimiter}${process.env.PATH}`,
    E2E_KUBECONFIG: '',
    FAKE_LOG: log,
    FAKE_KUBECONFIG: cluster.kubeconfig,
    FAKE_ADDRESSES: JSON.stringify(addresses),
    FAKE_OUTSIDE: `/run/netns/${namespaceName('outside')}`,
  };
  const args = ['--ip-family', 'dual', '--proxy-mode', 'nftables', ...CHECKS.flatMap((name) => ['--check', name])];
  const { code, table, said } = await cluster.e2e(args, { env });
  t.comment(table.join('\n'));
  t.equal(code, 0, `exit code 0: ${said.join('; ')}`);
  t.equal(table.filter((line) => line.startsWith('passed')).length, CHECKS.length, 'all checks were run');
  t.same(cluster.failures, [], 'the players had no trouble');

  const commands = readFileSync(log, 'utf8')
    .replaceAll(/kubeplumb-e2e-\d+/g, 'NAME')
    .trim()
    .split('\n');
  for (const expected of [
    /^docker build -t kubeplumb:e2e \//,
    /^docker tag kubeplumb:e2e kubeplumb:e2e-upgrade/,
    /^kind create cluster --name NAME .*"ipFamily":"dual","kubeProxyMode":"none"/,
    /^kind load docker-image kubeplumb:e2e --name NAME/,
    /^kind load docker-image kubeplumb:e2e-upgrade --name NAME/,
    /^docker run -d --name NAME-outside --network kind --cap-add NET_ADMIN .*agnhost\S* netexec --http-port=28080/,
    /^docker exec NAME-outside ip -4 route add 203\.0\.113\.0\/24 via 172\.18\.0\.11/,
    /^docker exec NAME-outside ip -6 route add 2001:db8:e2e::\/64 via fd00:172:18::11/,
    /^docker stop node-2/,
    /^docker start node-2/,
    /^docker rm -f NAME-outside/,
  ])
    t.ok(
      commands.some((command) => expected.test(command)),
      String(expected),
    );
  t.match(commands.at(-1), /^kind delete cluster --name NAME/, 'the cluster is deleted last');
});
