// Runs checks against a cluster as subtests, keeps what came of each, and collects logs where one failed.
import { join } from 'node:path';
import type { Test } from 'tap';
import { type Check, SkipCheck } from './checks/check.ts';
import { CHECKS } from './checks/list.ts';
import type { Cluster } from './cluster/cluster.ts';
import { setStage } from './stage.ts';

export interface CheckResult {
  readonly check: string;
  readonly result: 'passed' | 'failed' | 'skipped';
  /** Why it was skipped. */
  readonly reason: string | null;
  readonly seconds: number;
}

export interface RunChecksOptions {
  readonly cluster: Cluster;
  /** Those whose name one of these is part of; all when empty. */
  readonly only?: readonly string[];
  /** For logs and dumps of failed checks; nothing is collected without. */
  readonly artifacts?: string;
  readonly checks?: readonly Check[];
}

/** Never throws for a check that fails. @throws Error when the pods of the checks do not come up */
export async function runChecks(t: Test, options: RunChecksOptions): Promise<CheckResult[]> {
  const { cluster, only = [], artifacts, checks = CHECKS } = options;
  const results: CheckResult[] = [];
  const stage = await setStage(cluster, (text) => t.comment(text));
  t.comment(
    `${cluster.name}: nodes ${cluster.nodes.map(({ name }) => name).join(', ')}, ${stage.families.join(' and ')}, ` +
      `mode ${cluster.mode ?? 'unknown'}; clients ${stage.clients.map(({ name }) => name).join(', ')}`,
  );
  for (const check of checks) {
    if (only.length > 0 && !only.some((part) => check.name.includes(part))) continue;
    let reason = (check.needs ?? []).map((need) => cluster.missing(need)).find((why) => why !== null) ?? null;
    const startedAt = performance.now();
    let result: CheckResult['result'] = reason === null ? 'failed' : 'skipped';
    await t.test(check.name, { skip: reason ?? false, timeout: cluster.checkLimitMs }, async (t) => {
      try {
        await check.run(t, stage);
      } catch (error) {
        if (error instanceof SkipCheck) {
          reason = error.message;
          result = 'skipped';
          t.plan(0, reason);
          return;
        }
        t.error(error);
      }
      result = t.passing() ? 'passed' : 'failed';
      if (result === 'failed' && artifacts !== undefined)
        await cluster.collect(join(artifacts, check.name.replaceAll(/[^\w]+/g, '-')));
    });
    const seconds = Math.round((performance.now() - startedAt) / 100) / 10;
    results.push({ check: check.name, result, reason, seconds });
  }
  return results;
}

/** A line for each check. */
export function resultsText(results: readonly CheckResult[]): string {
  return results
    .map(({ check, result, reason, seconds }) => {
      return `${result.padEnd(7)} ${seconds.toFixed(1).padStart(6)} s  ${check}${reason === null ? '' : ` (${reason})`}`;
    })
    .join('\n');
}
