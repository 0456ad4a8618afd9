// Continuous connections while endpoints are replaced and other Services change, in iptables mode.
import t from 'tap';
import { runChurn } from '../support/churn.ts';
import { inVariant, VARIANTS, variantMissing } from '../support/iptables-node.ts';
import { namespacesMissing } from '../support/namespaces.ts';

const missing = await namespacesMissing();

for (const variant of VARIANTS) {
  t.test(
    `iptables-${variant}: no connection fails or is late`,
    { skip: missing ?? variantMissing(variant) },
    async (t) => {
      const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
      t.comment(`SEED=${seed}`);
      const report = await runChurn({
        seconds: 4,
        replacements: 20,
        otherServices: 60,
        changesPerSecond: 40,
        connectsPerSecond: 250,
        seed,
        ...inVariant(variant),
      });
      t.comment(JSON.stringify(report));
      t.strictSame(report.failed, {}, 'no connection failed');
      t.strictSame(report.late, [], 'none reached an endpoint whose removal had been acknowledged before it began');
      t.equal(report.repairs + report.syncFailures, 0, 'nothing had to be repaired or tried again');
      t.ok(report.attempts > 400, `${report.attempts} connections`);
      t.ok(report.endpointsReached >= 8, `${report.endpointsReached} endpoints were reached`);
    },
  );
}
