// The long version of test/agent/churn.test.ts; prints its report as JSON and ends with 1 if a connection failed or was late.
//
//   node bench/churn.ts --seconds 60 --replacements 1000 --services 10000 --changes 200 --connects 500
import { parseArgs } from 'node:util';
import { runChurn } from '../test/support/churn.ts';
import { namespacesMissing } from '../test/support/namespaces.ts';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    replacements: { type: 'string', default: '1000' },
    services: { type: 'string', default: '10000' },
    changes: { type: 'string', default: '200' },
    connects: { type: 'string', default: '500' },
    mode: { type: 'string', default: 'nftables' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
  },
});

const { mode } = values;
if (mode !== 'nftables' && mode !== 'iptables') throw new Error(`--mode ${mode}: there are nftables and iptables`);
const missing = await namespacesMissing();
if (missing !== null) throw new Error(missing);
process.stderr.write(`seed ${values.seed}\n`);
const report = await runChurn({
  seconds: Number(values.seconds),
  replacements: Number(values.replacements),
  otherServices: Number(values.services),
  changesPerSecond: Number(values.changes),
  connectsPerSecond: Number(values.connects),
  seed: Number(values.seed),
  mode,
});
process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
process.exitCode = Object.keys(report.failed).length + report.late.length === 0 ? 0 : 1;
