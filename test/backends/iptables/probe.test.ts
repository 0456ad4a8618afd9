// What the probe says about kernels that cannot do it; those that can are in writer.test.ts.
import t from 'tap';
import { probeFamily } from '../../../backends/iptables/probe.ts';
import { MessageWriter } from '../../../native/netlink/message.ts';
import { Batch } from '../../../native/nftables/batch.ts';
import type { NftConnection } from '../../../native/nftables/connection.ts';
import type { CommitResult, Refusal } from '../../../native/nftables/results.ts';

/** A kernel that has table nat only, and answers each transaction as told. */
function kernel(answers: ((batch: Batch) => CommitResult)[]): NftConnection & { batches: Batch[] } {
  const batches: Batch[] = [];
  let seq = 0;
  const fake = {
    batches,
    generation: () => 7,
    tables: () => [{ family: 'IPv4', name: 'nat', userdata: '' }],
    batch(table: string, generation?: number): Batch {
      const batch = new Batch({ writer: new MessageWriter(), nextSeq: () => ++seq, table, generation });
      batches.push(batch);
      return batch;
    },
    commit: async (batch: Batch): Promise<CommitResult> => answers.shift()!(batch),
  };
  return fake as unknown as NftConnection & { batches: Batch[] };
}

const refusal = (code: string, index: number | null): Refusal => ({
  errno: 2,
  code,
  message: `the transaction: ${code}`,
  family: 'IPv4',
  set: null,
  key: null,
  index,
});
const refuse =
  (...refusals: Refusal[]) =>
  (): CommitResult => ({ outcome: 'refused', refusals });
const committed = (): CommitResult => ({ outcome: 'committed', handles: new Map() });

t.test('tables that exist are not made, and above all not deleted', async (t) => {
  const nft = kernel([committed]);
  t.equal(await probeFamily(nft, 'IPv4'), null);
  const objects = nft.batches[0]!.subjects.map(({ what }) => what);
  t.strictSame(
    objects.filter((what) => what.startsWith('table')),
    ['table', 'table mangle', 'table', 'table filter'],
  );
});

t.test('the extension that is missing is named', async (t) => {
  const nft = kernel([
    (batch) => {
      const rules = batch.subjects.flatMap(({ what }, i) => (what.startsWith('rule in') ? [i] : []));
      return { outcome: 'refused', refusals: [refusal('ENOENT', rules[0]!), refusal('EOPNOTSUPP', 0)] };
    },
  ]);
  t.equal(
    await probeFamily(nft, 'IPv4'),
    'IPv4: match comment, match addrtype, target REJECT: ENOENT; table mangle: EOPNOTSUPP',
  );
});

t.test('a change by others at the same time is tried again, but not for ever', async (t) => {
  const outdated = refuse(refusal('ERESTART', null));
  const twice = kernel([outdated, outdated, committed]);
  t.equal(await probeFamily(twice, 'IPv6'), null);
  t.equal(twice.batches.length, 3);
  t.match(await probeFamily(kernel(Array.from({ length: 100 }, () => outdated)), 'IPv6'), /ERESTART/);
});

t.test('no permission, no reply', async (t) => {
  t.equal(await probeFamily(kernel([refuse(refusal('EPERM', null))]), 'IPv4'), 'IPv4: the transaction: EPERM');
  t.match(await probeFamily(kernel([() => ({ outcome: 'unknown' })]), 'IPv4'), /no reply/);
});
