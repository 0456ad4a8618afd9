// The two keys of the ConfigMap kube-proxy as kubeadm writes it are taken as they are (P-96, P-97).
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { loadConfig } from '../../agent/config/load.ts';
import { loadAccess } from '../../agent/source/kube-config.ts';

const FOLDER = join(import.meta.dirname, '../fixtures/config/kubeadm');
const ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';

t.test('config.conf with the arguments of the DaemonSet', async (t) => {
  const loaded = loadConfig({
    argv: ['--config=/var/lib/kube-proxy/config.conf', '--hostname-override=worker-1'],
    readFile: () => readFileSync(join(FOLDER, 'config.conf'), 'utf8'),
  });
  if (loaded.action !== 'run') throw new Error(loaded.action);
  t.strictSame(loaded.warnings, [], 'nothing to warn about');
  t.match(loaded.config, {
    mode: 'iptables',
    hostnameOverride: 'worker-1',
    kubeconfig: '/var/lib/kube-proxy/kubeconfig.conf',
    bindAddress: '0.0.0.0',
    healthzBindAddress: '0.0.0.0:10256',
    metricsBindAddress: '127.0.0.1:10249',
    syncPeriodMs: 30_000,
    minSyncPeriodMs: 1000,
    masqueradeBit: 14,
    localhostNodePorts: true,
    clusterCidrs: ['10.244.0.0/16'],
    oomScoreAdj: -999,
    conntrack: {
      maxPerCore: 32768,
      min: 131072,
      tcpEstablishedTimeoutMs: 86_400_000,
      tcpCloseWaitTimeoutMs: 3_600_000,
    },
  });
});

t.test('kubeconfig.conf', async (t) => {
  t.match(loadAccess({ kubeconfig: join(FOLDER, 'kubeconfig.conf') }), {
    servers: ['https://192.0.2.10:6443'],
    cluster: { caFile: `${ACCOUNT}/ca.crt`, skipTLSVerify: false },
    account: { tokenFile: `${ACCOUNT}/token` },
  });
});
