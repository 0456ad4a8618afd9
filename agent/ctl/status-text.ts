// The status of an agent as text for people.
import type { DetectLocal } from '../../backends/service-plan.ts';
import type { Status, Verdict } from '../status.ts';
import { ago, columns, count, counted, duration, printable, type Style, size, took } from './terminal.ts';

const COLOURS: Readonly<Record<Verdict, 'green' | 'yellow' | 'red'>> = {
  healthy: 'green',
  starting: 'yellow',
  degraded: 'yellow',
  unhealthy: 'red',
};

export function statusText(status: Status, style: Style): string {
  const { version, mode, node, verdict, reasons, watches, problems } = status;
  const zone = node.zone === '' ? '' : ` (zone ${printable(node.zone)})`;
  const title = `kubeplumb ${version}, mode ${mode}, node ${printable(node.name)}${zone}: `;
  const section = (name: string, rows: readonly (readonly string[])[]): string =>
    rows.length === 0 ? '' : `\n${style('bold', name)}\n${columns(rows)}`;
  const sources = [...new Set(watches.map(({ source }) => printable(source)))];
  return [
    `${style('bold', title)}${style(COLOURS[verdict], verdict)}\n`,
    columns(reasons.map((reason) => [printable(reason)])),
    section('Agent', agentRows(status)),
    section('Syncs', syncRows(status)),
    section('Objects', objectRows(status)),
    section(`Watches of ${sources.join(', ')}`, watchRows(status, style)),
    section('Refused by the kernel', refusedRows(status)),
    section(
      `Problems of objects: ${count(problems.length)}`,
      problems.map((p, i) => [
        p.object === problems[i - 1]?.object ? '' : p.object, // an object is named once
        printable(p.field),
        printable(p.message),
      ]),
    ),
  ].join('');
}

function agentRows({ pid, startedMs, nowMs, rssBytes, settings, health }: Status): string[][] {
  const rows = [
    ['running', `${duration(nowMs - startedMs)} (process ${pid})`],
    ['memory', size(rssBytes)],
    ['load balancers', health.nodeEligible ? 'may use this node' : 'may not use this node: unknown, or about to go'],
  ];
  for (const [family, own] of Object.entries(settings?.families ?? {})) {
    const ports =
      own.nodePortAddresses === 'all' ? 'all addresses' : own.nodePortAddresses.join(', ') || 'no address at all';
    rows.push([family, `node ports on ${ports}; pods of this node: ${podsText(own.detectLocal)}`]);
  }
  return rows;
}

function podsText(by: DetectLocal | null): string {
  switch (by?.by) {
    case 'cidr':
      return by.cidr;
    case 'interface':
      return `behind ${by.name}`;
    case 'interfacePrefix':
      return `behind ${by.prefix}*`;
    default:
      return 'not told apart';
  }
}

function syncRows({ mode, sync, nowMs, health, repairs }: Status): string[][] {
  if (sync === null) return [['first', 'not yet']];
  const { counts } = sync;
  const rows = [
    ['first', sync.firstDurationMs === null ? 'not done yet' : `took ${took(sync.firstDurationMs)}`],
    [
      'last',
      `${ago(sync.lastSyncMs, nowMs)}${sync.lastDurationMs === null ? '' : `, took ${took(sync.lastDurationMs)}`}`,
    ],
    ['done', `${count(sync.syncs)}, failed ${count(sync.failures)}`],
    [
      'sent',
      `${count(counts.added)} ${mode === 'nftables' ? 'elements' : 'rules'} added, ${count(counts.deleted)} deleted, ${counted(counts.objects, 'other object')}, ` +
        `${counted(counts.transactions, 'transaction')}, ${size(counts.bytes)}`,
    ],
  ];
  for (const [family, { healthy }] of Object.entries(health.families)) if (!healthy) rows.push([family, 'is behind']);
  if (sync.lastFailure !== null)
    rows.push(['last failure', `${ago(sync.lastFailure.atMs, nowMs)}: ${printable(sync.lastFailure.message)}`]);
  rows.push(['repairs', repairs.count === 0 ? 'none' : `${count(repairs.count)} of foreign changes`]);
  if (repairs.last !== null) {
    const { atMs, culprit, description } = repairs.last;
    const by = culprit === null ? '' : ` by ${printable(culprit)}`;
    rows.push(['last repair', `${ago(atMs, nowMs)}, changed${by}: ${printable(description)}`]);
  }
  return rows;
}

function objectRows({ counts }: Status): string[][] {
  return [
    ['Services', count(counts.services)],
    ['ServicePorts', count(counts.servicePorts)],
    ['frontends', count(counts.frontends)],
    ['endpoints', count(counts.endpoints)],
  ];
}

function watchRows({ watches, nowMs }: Status, style: Style): string[][] {
  return [
    ['KIND', 'OBJECTS', 'LAST HEARD', 'STATE'].map((head) => style('dim', head)),
    ...watches.map(({ kind, objects, lastHeardMs, complete, lastError }) => {
      const state = complete ? 'complete' : style('yellow', 'incomplete');
      const error = lastError === null ? '' : style('red', `, ${printable(lastError)}`);
      return [kind, count(objects), ago(lastHeardMs, nowMs), state + error];
    }),
  ];
}

function refusedRows({ sync }: Status): string[][] {
  return (sync?.refused ?? []).map(({ service, family, message }) => [service, family, printable(message)]);
}
