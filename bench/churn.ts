// The long version of test/agent/churn.test.ts; prints its report as JSON and ends with 1 if a connection failed or was late.
//
//   node bench/churn.ts --seconds 60 --replacements 1000 --services 10000 --changes 200 --connects 500
//   node bench/churn.ts --faults --minutes 20       # instead: an API server that is killed again and again
import { parseArgs } from 'node:util';
import { runChurn } from '../test/support/churn.ts';
import { namespacesMissing } from '../test/support/namespaces.ts';

const { values } = parseArgs({
  options: {
    faults: { type: 'boolean', default: false },
    minutes: { type: 'string', default: '20' },
    'kill-every': { type: 'string', default: '30' },
    'cut-every': { type: 'string', default: '5' },
    seconds: { type: 'string', default: '60' },
    replacements: { type: 'string', default: '1000' },
    services: { type: 'string' },
    changes: { type: 'string' },
    connects: { type: 'string', default: '500' },
    mode: { type: 'string', default: 'nftables' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
  },
});

const { mode } = values;
if (mode !== 'nftables' && mode !== 'iptables') throw new Error(`--mode ${mode}: there are nftables and iptables`);
const chosen: 'nftables' | 'iptables' = mode;

async function connections(): Promise<boolean> {
  const report = await runChurn({
    seconds: Number(values.seconds),
    replacements: Number(values.replacements),
    otherServices: Number(values.services ?? 10_000),
    changesPerSecond: Number(values.changes ?? 200),
    connectsPerSecond: Number(values.connects),
    seed: Number(values.seed),
    mode: chosen,
  });
  process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
  return Object.keys(report.failed).length + report.late.length === 0;
}

async function faults(): Promise<boolean> {
  const { runFaults } = await import('./faults.ts');
  const criteria = await runFaults({
    seconds: Number(values.minutes) * 60,
    services: Number(values.services ?? 200),
    changesPerSecond: Number(values.changes ?? 20),
    killEveryMs: Number(values['kill-every']) * 1000,
    cutEveryMs: Number(values['cut-every']) * 1000,
    seed: Number(values.seed),
    bundled: true,
    mode: chosen,
    say: (line) => process.stdout.write(`${line}\n`),
  });
  for (const { what, holds, figures } of criteria)
    process.stdout.write(`${holds ? 'ok    ' : 'FAILED'}  ${what}: ${figures}\n`);
  const good = criteria.every(({ holds }) => holds);
  process.stdout.write(`${good ? 'passed' : 'FAILED'}\n`);
  return good;
}

const missing = await namespacesMissing();
if (missing !== null) throw new Error(missing);
process.stderr.write(`seed ${values.seed}\n`);
process.exitCode = (await (values.faults ? faults() : connections())) ? 0 : 1;
