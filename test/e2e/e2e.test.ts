// The checks of e2e/ pass on a cluster of two nodes made of network namespaces, on the real kube-apiserver where there is one.
import t from 'tap';
import { NamespacesCluster } from '../../e2e/cluster/namespaces/cluster.ts';
import { resultsText, runChecks } from '../../e2e/run-checks.ts';
import { namespacesMissing } from '../support/namespaces.ts';
import { scaled } from '../support/time-scale.ts';

// As long as .taprc gives the file.
const LIMIT_MS = scaled(400_000);

t.setTimeout(LIMIT_MS);
const reason = await namespacesMissing();

t.test('e2e checks, nftables mode', { skip: reason ?? false, timeout: LIMIT_MS }, async (t) => {
  const cluster = await NamespacesCluster.create({ mode: 'nftables', note: (text) => t.comment(text) });
  t.teardown(() => cluster.close());
  const artifacts = process.env.E2E_ARTIFACTS;
  const results = await runChecks(t, { cluster, ...(artifacts !== undefined && { artifacts }) });
  t.comment(`${cluster.name}\n${resultsText(results)}`);
  t.ok(results.filter(({ result }) => result === 'passed').length >= 20, 'most checks can run here');
});
