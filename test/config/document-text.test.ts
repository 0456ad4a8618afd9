import t from 'tap';
import { parse } from 'yaml';
import { withDefaults, withPlatformDefaults } from '../../agent/config/defaults.ts';
import { documentText, toV1alpha1 } from '../../agent/config/document-text.ts';
import { decodeFile } from '../../agent/config/file.ts';

t.test('a written configuration reads back as the same', async (t) => {
  const document = withPlatformDefaults(
    withDefaults({
      mode: 'ipvs',
      bindAddress: '::',
      clusterCIDR: '10.0.0.0/8,fd00::/48',
      featureGates: { AllBeta: false },
      ipvs: { excludeCIDRs: ['192.0.2.0/24'], tcpTimeout: 90_000 },
      logging: { vmodule: [{ filePattern: 'x', verbosity: 2 }] },
    }),
  );
  const { fields, warnings } = decodeFile(documentText(document), 'f');
  t.same(warnings, []);
  t.same(withPlatformDefaults(withDefaults(fields)), document);
});

t.test('periods of other modes are shown as zero, empty things as kube-proxy does', async (t) => {
  const shown = toV1alpha1(withPlatformDefaults(withDefaults({ mode: 'nftables' })));
  t.match(shown, {
    kind: 'KubeProxyConfiguration',
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    mode: 'nftables',
    nodePortAddresses: ['primary'],
    nftables: { syncPeriod: '30s', minSyncPeriod: '1s' },
    iptables: { syncPeriod: '0s', minSyncPeriod: '0s' },
    ipvs: { syncPeriod: '0s', excludeCIDRs: null },
    conntrack: { tcpEstablishedTimeout: '24h0m0s' },
    configSyncPeriod: '15m0s',
  });
  t.notOk('featureGates' in shown);
  t.same(Object.keys(shown), Object.keys(shown).sort());
  t.same(parse(documentText(withDefaults({}))).logging, {
    flushFrequency: '5s',
    format: 'text',
    options: { json: { infoBufferSize: '0' }, text: { infoBufferSize: '0' } },
    verbosity: 0,
  });
});
