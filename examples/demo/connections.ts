// The connections of the demo, what is expected of each, and whether it came true. Pure.
import { columns, type Style } from '../../agent/ctl/terminal.ts';
import { type Attempt, attemptText } from '../../test/support/host-calls.ts';
import { NODE_IPS } from '../../test/support/network.ts';
import type { Destination, Shop } from './shop.ts';

/** A few equal connections, one after the other. */
export interface Row {
  /** The host that dials. */
  readonly from: string;
  readonly to: Destination;
  readonly times: number;
  /** Pods that may answer. */
  readonly answeredBy: readonly string[];
  /** Whose address the pod must see: the client's own, or the node's, which masquerades. */
  readonly sees: 'client' | 'node';
  /** All of them must be answered by the same pod. */
  readonly sticky?: boolean;
}

export interface Judged {
  readonly row: Row;
  readonly attempts: readonly Attempt[];
  /** Connections that went as expected. */
  readonly good: number;
}

export const OUTSIDE = { name: 'customer', ip: ['172.18.0.100', 'fd00:172:18::100'] } as const;
const [NODE_IPV4 = '', NODE_IPV6 = ''] = NODE_IPS;

/** Who reaches the frontend while `pods` are there to answer. */
export function frontendRows(shop: Shop, pods: readonly string[], times: number): Row[] {
  const name = 'shop/frontend';
  return [
    { from: OUTSIDE.name, to: shop.nodePort(name, NODE_IPV4), times, answeredBy: pods, sees: 'node' },
    { from: OUTSIDE.name, to: shop.nodePort(name, NODE_IPV6), times, answeredBy: pods, sees: 'node' },
    { from: 'cart-a', to: shop.clusterIP(name), times, answeredBy: pods, sees: 'client' },
  ];
}

/** The tour through all kinds of Services: from a pod, from the node, and from outside. */
export function tour(shop: Shop): Row[] {
  const pod = 'frontend-a';
  const carts = ['cart-a', 'cart-b'];
  const checkouts = ['checkout-a', 'checkout-b'];
  const searches = ['search-a', 'search-b', 'search-c'];
  const dns = { answeredBy: ['dns-a'], times: 2 };
  const checkout = shop.loadBalancerIP('shop/checkout');
  return [
    { from: pod, to: shop.clusterIP('kube-system/kube-dns', 'IPv4', 'UDP'), sees: 'client', ...dns },
    { from: pod, to: shop.clusterIP('kube-system/kube-dns', 'IPv4', 'TCP'), sees: 'client', ...dns },
    // A pod that reaches itself must not see its own address as the client's: the answer would not find its way back.
    { from: 'dns-a', to: shop.clusterIP('kube-system/kube-dns', 'IPv4', 'UDP'), sees: 'node', ...dns },
    { from: pod, to: shop.clusterIP('shop/cart'), times: 6, answeredBy: carts, sees: 'client' },
    { from: pod, to: shop.clusterIP('shop/cart', 'IPv6'), times: 6, answeredBy: carts, sees: 'client' },
    { from: 'node', to: shop.clusterIP('shop/cart'), times: 6, answeredBy: carts, sees: 'node' },
    { from: pod, to: shop.clusterIP('shop/search'), times: 5, answeredBy: searches, sees: 'client', sticky: true },
    { from: 'cart-a', to: shop.podOf('shop/db', 'db-0'), times: 1, answeredBy: ['db-0'], sees: 'client' },
    ...frontendRows(shop, ['frontend-a', 'frontend-b'], 6),
    // Policy Local: only pods of this node, and they see the customer.
    { from: OUTSIDE.name, to: checkout, times: 4, answeredBy: ['checkout-a'], sees: 'client' },
    {
      from: OUTSIDE.name,
      to: shop.nodePort('shop/checkout', NODE_IPV4),
      times: 4,
      answeredBy: ['checkout-a'],
      sees: 'client',
    },
    // For those inside the cluster policy Local is none: any pod may answer.
    { from: pod, to: checkout, times: 4, answeredBy: checkouts, sees: 'client' },
  ];
}

/** `addresses` are those of the row's client. */
export function judge(row: Row, attempts: readonly Attempt[], addresses: readonly string[]): Judged {
  const source = expectedSource(row, addresses);
  const [first] = attempts;
  const good = attempts.filter((attempt) => {
    if (attempt.outcome !== 'answered') return false;
    const same = !row.sticky || (first?.outcome === 'answered' && attempt.host === first.host);
    return same && row.answeredBy.includes(attempt.host) && attempt.peer === source;
  });
  return { row, attempts, good: good.length };
}

function expectedSource({ to, sees }: Row, addresses: readonly string[]): string | undefined {
  const ipv6 = to.ip.includes(':');
  return (sees === 'node' ? NODE_IPS : addresses).find((ip) => ip.includes(':') === ipv6);
}

/** Whether all connections that the row asks for were made and went well. */
export const isGood = ({ row, attempts, good }: Judged): boolean => attempts.length === row.times && good === row.times;

/** `cart-a 4×, cart-b 2×`; the most frequent first. */
function tally(names: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  const sorted = [...counts].sort(([a, m], [b, n]) => n - m || a.localeCompare(b));
  return sorted.map(([name, count]) => (count === 1 ? name : `${name} ${count}×`)).join(', ');
}

const destinationText = ({ how, ip, port, proto }: Destination): string =>
  `${how} ${ip.includes(':') ? `[${ip}]` : ip}:${port}${proto === 'UDP' ? ' UDP' : ''}`;

const ownerText = (ip: string, addresses: readonly string[]): string => {
  if (NODE_IPS.includes(ip)) return `${ip} (node)`;
  return addresses.includes(ip) ? `${ip} (own)` : ip;
};

/** The rows as a table; `addresses` gives those of a host. */
export function table(judged: readonly Judged[], addresses: (host: string) => readonly string[], style: Style): string {
  const head = ['OK', 'FROM', 'TO', 'SERVICE', 'ANSWERED BY', 'SOURCE IP THE POD SAW'];
  const rows = judged.map((result) => {
    const { row, attempts } = result;
    const answered = attempts.map((attempt) => (attempt.outcome === 'answered' ? attempt.host : attemptText(attempt)));
    const peers = attempts.flatMap((attempt) => (attempt.outcome === 'answered' ? [attempt.peer] : []));
    const sources = [...new Set(peers)].map((ip) => ownerText(ip, addresses(row.from)));
    const good = isGood(result);
    const verdict = good ? style('green', 'ok') : style('red', 'WRONG');
    const wanted = good ? [] : [style('red', `expected: ${expectation(row, addresses(row.from))}`)];
    const saw = sources.join(', ') || '-';
    return [verdict, row.from, destinationText(row.to), row.to.service, tally(answered), saw, ...wanted];
  });
  return columns([head.map((cell) => style('dim', cell)), ...rows]);
}

function expectation(row: Row, addresses: readonly string[]): string {
  const pods = row.answeredBy.join(' or ');
  return `${row.sticky ? 'always the same one of ' : ''}${pods}, seeing ${expectedSource(row, addresses)}`;
}
