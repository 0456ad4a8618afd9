// Continuous connections while endpoints are replaced and other Services change; `bench/churn.ts` is the long version.
import t from 'tap';
import { runChurn } from '../support/churn.ts';
import { namespacesMissing } from '../support/namespaces.ts';

const missing = await namespacesMissing();

t.test('no connection fails or is late', { skip: missing ?? false }, async (t) => {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
  t.comment(`SEED=${seed}`);
  const report = await runChurn({
    seconds: 6,
    replacements: 100,
    otherServices: 300,
    changesPerSecond: 100,
    connectsPerSecond: 250,
    seed,
  });
  t.comment(JSON.stringify(report));
  t.strictSame(report.failed, {}, 'no connection failed');
  t.strictSame(report.late, [], 'none reached an endpoint whose removal had been acknowledged before it began');
  t.equal(report.repairs + report.syncFailures, 0, 'nothing had to be repaired or tried again');
  t.ok(report.attempts > 500, `${report.attempts} connections`);
  t.ok(report.endpointsReached >= 12, `${report.endpointsReached} endpoints were reached`);
});
