// `npm run e2e -- --deploy` deploys daemonset.yaml, restarts, upgrades and reconfigures its agents under load, and takes it back.
import t from 'tap';
import { controlPlaneMissing } from '../support/control-plane.ts';
import { namespacesMissing } from '../support/namespaces.ts';
import { scaled } from '../support/time-scale.ts';
import { startPlayedCluster } from './played-cluster.ts';

const CHECKS = ['an agent restarts', 'agents are upgraded', 'the mode changes'];

t.setTimeout(scaled(400_000));
const reason = (await namespacesMissing()) ?? controlPlaneMissing();

t.test('npm run e2e -- --deploy', { skip: reason ?? false, timeout: 0 }, async (t) => {
  const cluster = await startPlayedCluster(t);
  const map = '/api/v1/namespaces/kube-system/configmaps/kubeplumb';
  const data = { 'config.conf': 'mode: ipvs\n', more: 'of somebody else' };
  const before = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'kubeplumb' }, data };
  await cluster.call('PATCH', `${map}?fieldManager=somebody`, 'application/apply-patch+yaml', before);
  const args = ['--deploy', '--proxy-mode', 'nftables', ...CHECKS.flatMap((name) => ['--check', name])];
  const { code, table, said } = await cluster.e2e(args, {
    env: { E2E_AGENT_IMAGE: 'kubeplumb:this', E2E_UPGRADE_IMAGE: 'kubeplumb:next' },
  });
  t.comment(table.join('\n'));
  t.equal(code, 0, `exit code 0: ${said.join('; ')}`);
  t.equal(table.filter((line) => line.startsWith('passed')).length, CHECKS.length, 'all checks were run');
  t.same(cluster.failures, [], 'the players had no trouble');
  const asBefore = async (): Promise<void> => {
    const { items } = (await cluster.call('GET', '/apis/apps/v1/daemonsets')) as { items: unknown[] };
    t.same(items, [], 'the DaemonSet is gone again');
    t.match(await cluster.call('GET', map), { data }, 'what was there before is as it was');
  };
  await asBefore();

  const stopAt = /getting the cluster ready/;
  const interrupted = await cluster.e2e(args, { env: { E2E_AGENT_IMAGE: 'kubeplumb:this' }, stopAt });
  t.equal(interrupted.code, 1, 'SIGTERM while agents are deployed fails it');
  await asBefore();
});
