// What runs inside the machines of `npm run test:vm`: tests that send packets or talk to the kernel, in all three modes. Tests
// of pure parts gain nothing there; those with heavy load take too long, and so would some that send no packets (texts of nft,
// leaving iptables mode), which can be named on the command line. The longest first, because several run at once.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

/** Paths from the project's root; `*` stands for anything within a name. */
export const SUITE = [
  'test/agent/ipvs-*.test.ts',
  'test/agent/iptables-course.test.ts',
  'test/agent/nftables-course.test.ts',
  'test/agent/stale-udp.test.ts',
  'test/backends/ipvs/*kernel*.test.ts',
  'test/backends/nftables/kernel-start.test.ts',
  'test/backends/iptables/backend-start.test.ts',
  'test/backends/iptables/writer.test.ts',
  'test/backends/iptables/detect.test.ts',
  'test/backends/iptables/nfacct.test.ts',
  'test/native/conntrack.test.ts',
  'test/native/route.test.ts',
  'test/native/route/*.test.ts',
  'test/native/*/*kernel*.test.ts',
];

/** What `npm test` takes of it: IPVS, which few machines have otherwise, without load. */
export const SHORT_SUITE = [
  'test/agent/ipvs-course.test.ts',
  'test/backends/ipvs/*kernel*.test.ts',
  'test/native/ipvs/*kernel*.test.ts',
];

/** Reasons to skip that do not hold in a machine that has everything: there such a skip is a failure. */
export const NO_REASON = [
  /no IPVS/i,
  /needs network namespaces/,
  /user namespace/,
  /no program/,
  /no dummy links/,
  /no accounting/,
];

const toRegExp = (pattern) => new RegExp(`^${pattern.replaceAll(/[.+]/g, '\\$&').replaceAll('*', '[^/]*')}$`);

/** Those of `paths` that a pattern names, in the order of the patterns. Throws when one names none: its files were renamed. */
export function chooseFiles(paths, patterns = SUITE) {
  const chosen = patterns.flatMap((pattern) => {
    const files = paths.filter((path) => toRegExp(pattern).test(path)).sort();
    if (files.length === 0) throw new Error(`no test file is named by ${pattern} of test/vm/suite.mjs`);
    return files;
  });
  return [...new Set(chosen)];
}

/** The suite's files in the project at `root`. */
export function suiteFiles(root, patterns = SUITE) {
  const paths = readdirSync(join(root, 'test'), { recursive: true }).map((path) => join('test', path));
  return chooseFiles(paths, patterns);
}
