// An explanation of a Service as text for people.
import type { DetectLocal, Frontend } from '../../backends/service-plan.ts';
import type {
  EndpointExplanation,
  PortExplanation,
  ServiceExplanation,
  TrafficExplanation,
  TrafficKind,
} from '../explain/explanation.ts';
import { columns, counted, duration, percent, printable, type Style } from './terminal.ts';

const KINDS: Readonly<Record<Frontend['kind'], string>> = {
  clusterIP: 'cluster IP',
  externalIP: 'external IP',
  loadBalancer: 'load balancer IP',
  nodePort: 'node port',
};

const HEADINGS: Readonly<Record<TrafficKind, string>> = {
  internal: 'CLUSTER IP',
  external: 'EXTERNAL',
  outside: 'OUTSIDE',
  inside: 'INSIDE',
};

export function explanationText(explanation: ServiceExplanation, style: Style): string {
  const { service, node, ports, healthCheck, problems, refused } = explanation;
  const zone = node.zone === '' ? '' : ` (zone ${printable(node.zone)})`;
  const parts = [`${style('bold', `Service ${service}`)} on node ${printable(node.name)}${zone}\n`];
  if (refused.length > 0) {
    parts.push(style('red', 'The kernel refused it; what follows is not in force:\n'));
    parts.push(columns(refused.map(({ family, message }) => [family, printable(message)])));
  }
  if (ports.length === 0) parts.push('No port of it is served here.\n');
  for (const port of ports) parts.push(portText(port, style));
  if (healthCheck !== null) {
    const counts = Object.entries(healthCheck.localEndpoints).map(([family, ready]) => `${ready} (${family})`);
    parts.push(
      columns(
        [['Health check node port', `${healthCheck.port}, ready endpoints on this node: ${counts.join(', ')}`]],
        '',
      ),
    );
  }
  if (problems.length > 0) {
    const rows = problems.map((p) => [p.object, printable(p.field), printable(p.message)]);
    parts.push(style('yellow', 'Problems\n') + columns(rows));
  }
  return parts.join('\n');
}

function portText(port: PortExplanation, style: Style): string {
  const lines = [`${style('bold', port.name)} ${port.protocol} ${port.family}\n`, columns(factRows(port, style))];
  const trafficRows = port.traffic.map((traffic) => trafficRow(traffic, port, style));
  if (trafficRows.length > 0) {
    lines.push(columns([['TRAFFIC', 'GOES TO', 'CLIENT ADDRESS'].map((h) => style('dim', h)), ...trafficRows]));
  }
  if (port.endpoints.length === 0) lines.push('  It has no endpoints, ready or not.\n');
  else lines.push(columns(endpointRows(port, style)));
  if (port.endpoints.some(({ local, shares }) => local && Object.keys(shares).length > 0))
    lines.push('  A pod of this node that reaches itself through the Service is masqueraded.\n');
  return lines.join('\n');
}

function factRows(port: PortExplanation, style: Style): string[][] {
  const rows = port.frontends.map((frontend) => [KINDS[frontend.kind], frontendText(frontend, port)]);
  for (const frontend of port.lost) {
    const text = `${addressOf(frontend)} belongs to another Service port and is not served`;
    rows.push([KINDS[frontend.kind], style('yellow', text)]);
  }
  const external = port.externalTrafficPolicy === null ? '' : `, external ${port.externalTrafficPolicy}`;
  rows.push(['traffic policies', `internal ${port.internalTrafficPolicy}${external}`]);
  if (port.affinitySeconds !== null) {
    rows.push(['session affinity', `a client keeps its endpoint for ${duration(port.affinitySeconds * 1000)}`]);
  }
  if (port.topology !== 'none') {
    const where = port.topology === 'sameNode' ? 'this node' : "this node's zone";
    rows.push(['topology', `endpoints hinted for ${where}`]);
  }
  if (port.terminatingUsed) {
    rows.push(['attention', style('yellow', 'no endpoint is ready: terminating ones that still serve are used')]);
  }
  return rows;
}

function addressOf({ ip, port }: Frontend): string {
  if (ip === null) return String(port);
  return ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;
}

function frontendText(frontend: Frontend, { nodePortAddresses, sourceRanges }: PortExplanation): string {
  const address = addressOf(frontend);
  if (frontend.kind === 'nodePort') {
    if (nodePortAddresses === 'all') return `${address} on every address of this node`;
    return nodePortAddresses.length === 0
      ? `${address} on no address: none of this node's is in nodePortAddresses`
      : `${address} on ${nodePortAddresses.join(', ')}`;
  }
  if (frontend.kind === 'loadBalancer' && sourceRanges.length > 0)
    return `${address} for ${sourceRanges.join(', ')} only, others are dropped`;
  return address;
}

function trafficRow(traffic: TrafficExplanation, { scheduler }: PortExplanation, style: Style): string[] {
  return [trafficName(traffic), destination(traffic, scheduler, style), clientAddress(traffic)];
}

/** Where pods cannot be told apart they count as outside (S-21). */
function trafficName({ kind, podsBy }: TrafficExplanation): string {
  switch (kind) {
    case 'internal':
      return 'cluster IP';
    case 'external':
      return 'external';
    case 'outside':
      return `external, from outside${podsBy === null ? ' and from pods' : ''}`;
    case 'inside':
      return `external, from inside: this node${podsBy === null ? '' : ' and its pods'}`;
  }
}

function destination(traffic: TrafficExplanation, scheduler: string | null, style: Style): string {
  const { set, fallback, outcome, endpoints, sharePercent } = traffic;
  const here = set === 'local' ? ' on this node' : '';
  if (outcome === 'reject') return style('red', 'nowhere: refused, no endpoints');
  if (outcome === 'drop') return style('red', `nowhere: dropped, no endpoints${here}`);
  const share =
    sharePercent === null ? `scheduler ${scheduler}` : `${percent(sharePercent)}${endpoints > 1 ? ' each' : ''}`;
  return `${counted(endpoints, 'endpoint')}${here}, ${share}${fallback ? ': none is on this node' : ''}`;
}

function clientAddress({ outcome, masquerade, podsBy, kind }: TrafficExplanation): string {
  if (outcome !== 'endpoints') return '';
  if (masquerade === 'never') return 'kept';
  if (masquerade === 'node') return 'kept, but masqueraded for the node';
  if (masquerade === 'always' || podsBy === null) return 'masqueraded';
  const pods = `pods ${podsText(podsBy)}`;
  return kind === 'inside' ? `kept for ${pods}, masqueraded for the node` : `masqueraded, but kept for ${pods}`;
}

function podsText(by: DetectLocal): string {
  switch (by.by) {
    case 'cidr':
      return `in ${by.cidr}`;
    case 'interface':
      return `behind ${by.name}`;
    case 'interfacePrefix':
      return `behind ${by.prefix}*`;
  }
}

function endpointRows({ endpoints, traffic, scheduler }: PortExplanation, style: Style): string[][] {
  const kinds = traffic.map(({ kind }) => kind);
  const head = ['ENDPOINT', 'NODE', ...kinds.map((kind) => HEADINGS[kind]), ''].map((h) => style('dim', h));
  return [
    head,
    ...endpoints.map((endpoint) => [
      endpoint.address,
      nodeText(endpoint),
      ...kinds.map((kind) => shareText(endpoint.shares[kind], scheduler)),
      noteText(endpoint, kinds),
    ]),
  ];
}

const shareText = (share: number | null | undefined, scheduler: string | null): string =>
  share === undefined ? '-' : share === null ? `${scheduler}` : percent(share);

function nodeText({ nodeName, local }: EndpointExplanation): string {
  return nodeName === null ? 'unknown' : `${printable(nodeName)}${local ? ' (this)' : ''}`;
}

/** Why it gets nothing, or not all kinds of traffic. */
function noteText(endpoint: EndpointExplanation, kinds: readonly TrafficKind[]): string {
  const used = Object.keys(endpoint.shares).length > 0;
  const notes = used && !endpoint.ready ? ['terminating, still serving'] : [];
  const reasons = new Map<string, string[]>();
  for (const kind of kinds) {
    const reason = endpoint.leftOut[kind];
    if (reason !== undefined) reasons.set(reason, [...(reasons.get(reason) ?? []), HEADINGS[kind].toLowerCase()]);
  }
  for (const [reason, of] of reasons) notes.push(used ? `not ${of.join(', ')}: ${reason}` : reason);
  return printable(notes.join('; '));
}
