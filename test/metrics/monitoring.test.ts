// The dashboard and the alert rules under deploy/monitoring: every metric they ask for exists in some mode, with the
// labels they use; rates are taken of counters, quantiles of histograms.
import { readFileSync } from 'node:fs';
import t from 'tap';
import { parse } from 'yaml';
import { PROXY_MODES } from '../../agent/config/types.ts';
import type { WatchStatus } from '../../agent/source/source.ts';
import { type Exported, feed, metricsOf, parseExposition } from '../support/metrics.ts';

const read = (name: string): string =>
  readFileSync(new URL(`../../deploy/monitoring/${name}`, import.meta.url), 'utf8');

const watch: WatchStatus = {
  kind: 'Service',
  source: '',
  complete: true,
  optional: false,
  lastHeardMs: 0,
  silentMs: 0,
  outage: false,
  objects: 1,
  lastError: null,
  watches: 1,
  lists: 1,
};

async function exportedMetrics(): Promise<Map<string, Exported>> {
  const all = new Map<string, Exported>();
  for (const mode of PROXY_MODES) {
    const conditions = new Map([['KubeProxyRunning', '']]);
    const figures = { report: null, repairs: 0, conditions, watches: [watch], problems: [], closedHealthPorts: 0 };
    const metrics = metricsOf(mode, { figures: () => figures });
    feed(metrics);
    for (const [name, metric] of parseExposition((await metrics.exposition()).text)) all.set(name, metric);
  }
  return all;
}

/** Labels that Prometheus adds, or its own metric has. */
const OF_PROMETHEUS = ['instance', 'job', 'le'];
const WORDS = /^(histogram_quantile|on|and|by|sum|max|count|rate|increase|label_values)$/;

/** What is wrong with an expression. */
function problemsOf(expression: string, exported: ReadonlyMap<string, Exported>): string[] {
  const problems: string[] = [];
  const used = new Set<string>();
  const labels = new Set<string>();
  const bare = expression.replaceAll(/"[^"]*"/g, '""');
  for (const [, inside] of bare.matchAll(/\{([^}]*)\}/g)) {
    for (const [, label] of inside!.matchAll(/([a-z_]+)\s*[=!]/g)) labels.add(label!);
  }
  for (const [, inside] of bare.matchAll(/\b(?:by|on)\s*\(([^)]*)\)/g)) {
    for (const label of inside!.split(',')) labels.add(label.trim());
  }
  const names = bare
    .replaceAll(/\{[^}]*\}|\[[^\]]*\]/g, '')
    .replaceAll(/\b(by|on)\s*\([^)]*\)/g, '')
    .matchAll(/\b[a-z][a-z0-9_]*\b/g);
  for (const [word] of names) {
    if (WORDS.test(word) || word === 'up' || word === 'instance') continue;
    const base = exported.has(word) ? word : word.replace(/_(bucket|sum|count)$/, '');
    const metric = exported.get(base);
    if (metric === undefined || (base !== word && metric.type !== 'histogram')) problems.push(`no metric ${word}`);
    else used.add(base);
  }
  for (const [, word] of bare.matchAll(/\b(?:rate|increase)\(\s*([a-z0-9_]+)/g)) {
    const { type } = exported.get(word!) ?? exported.get(word!.replace(/_(bucket|sum|count)$/, '')) ?? { type: 'none' };
    if (type !== 'counter' && type !== 'histogram') problems.push(`${word} is no counter`);
  }
  const known = new Set([...OF_PROMETHEUS, ...[...used].flatMap((name) => exported.get(name)!.labels)]);
  for (const label of labels) if (!known.has(label)) problems.push(`no label ${label}`);
  const open = [...bare].filter((c) => c === '(').length - [...bare].filter((c) => c === ')').length;
  if (open !== 0) problems.push('parentheses do not match');
  return problems;
}

interface Panel {
  readonly id: number;
  readonly title: string;
  readonly type: string;
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[];
}

t.test('dashboard', async (t) => {
  const exported = await exportedMetrics();
  const { panels, templating } = JSON.parse(read('dashboard.json')) as {
    panels: Panel[];
    templating: { list: { definition?: string }[] };
  };
  t.equal(new Set(panels.map(({ id }) => id)).size, panels.length, 'numbers of panels');
  for (const { title, type, targets = [] } of panels) {
    if (type !== 'row') t.ok(targets.length > 0, `${title} shows something`);
    for (const { expr, legendFormat } of targets) {
      t.same(problemsOf(expr.replaceAll('$__rate_interval', '5m'), exported), [], `${title}: ${expr}`);
      for (const [, label] of legendFormat.matchAll(/\{\{(\w+)\}\}/g)) {
        t.match(expr, new RegExp(`\\b${label}\\b`), `${title}: legend ${label}`);
      }
    }
  }
  for (const { definition } of templating.list) {
    if (definition !== undefined) t.same(problemsOf(definition, exported), [], definition);
  }
});

t.test('alert rules', async (t) => {
  const exported = await exportedMetrics();
  const { groups } = parse(read('alerts.yaml')) as {
    groups: { rules: { alert: string; expr: string; for: string; labels: object; annotations: object }[] }[];
  };
  const rules = groups.flatMap((group) => group.rules);
  t.equal(new Set(rules.map(({ alert }) => alert)).size, rules.length, 'names');
  for (const rule of rules) {
    t.same(problemsOf(rule.expr, exported), [], rule.alert);
    t.match(rule.for, /^\d+m$/);
    t.match(rule.labels, { severity: /^(critical|warning|info)$/ });
    t.match(rule.annotations, { summary: /\.$/, description: /\.$/ });
  }
});

t.test('a wrong expression is found', async (t) => {
  const exported = await exportedMetrics();
  t.same(problemsOf('rate(kubeplumb_syncs[5m])', exported), [
    'no metric kubeplumb_syncs',
    'kubeplumb_syncs is no counter',
  ]);
  t.same(problemsOf('rate(kubeplumb_watch_silence_seconds[5m])', exported), [
    'kubeplumb_watch_silence_seconds is no counter',
  ]);
  t.same(problemsOf('kubeplumb_info{node="a"}', exported), ['no label node']);
  t.same(problemsOf('kubeplumb_info_count', exported), ['no metric kubeplumb_info_count']);
  t.same(problemsOf('sum by (nope) (kubeplumb_syncs_total))', exported), ['no label nope', 'parentheses do not match']);
});
