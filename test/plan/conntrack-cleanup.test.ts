// Stale UDP entries, beyond the recorded vectors.
import t from 'tap';
import { staleEntries, udpServicePorts } from '../../agent/plan/conntrack-cleanup.ts';
import { State } from '../../agent/state/state.ts';
import { type Raw, rawService, rawSlice } from '../support/kube-objects.ts';

function stateWith(objects: readonly Raw[], allowExternalIPs = true): State {
  const state = new State({ nodeName: 'worker-a', startedMs: 0, allowExternalIPs });
  for (const object of objects) state.apply(object.kind, object);
  return state;
}

const udp = (name: string, ip: string, day: string, spec: Raw = {}) =>
  rawService(
    name,
    {
      clusterIP: ip,
      clusterIPs: [ip],
      externalIPs: ['198.18.9.5'],
      ports: [{ name: 'dns', protocol: 'UDP', port: 53, nodePort: 30053 }],
      ...spec,
    },
    { creationTimestamp: day },
  );
const dnsSlice = (service: string, ip: string) =>
  rawSlice(`${service}-1`, service, [ip], { ports: [{ name: 'dns', protocol: 'UDP', port: 5353 }] });

function entry(dst: string, dport: number, backend: string) {
  const client = { src: '203.0.113.5', sport: 4000 };
  return {
    protocol: 'UDP',
    original: { ...client, dst, dport },
    reply: { src: backend, sport: 5353, dst: client.src, dport: 4000 },
  };
}

t.test('a Service does not judge the flows of an address that another one owns (N-18)', async (t) => {
  const state = stateWith([
    udp('owner', '10.96.0.1', '2026-01-01T00:00:00Z'),
    udp('loser', '10.96.0.2', '2026-01-02T00:00:00Z'),
    dnsSlice('owner', '10.0.0.1'),
    dnsSlice('loser', '10.0.0.2'),
  ]);
  const toOwner = [entry('198.18.9.5', 53, '10.0.0.1'), entry('192.0.2.11', 30053, '10.0.0.1')];
  const entries = [...toOwner, entry('10.96.0.2', 53, '10.0.0.9')];
  const loser = udpServicePorts(state.planInput('shop/loser', 'IPv4'));
  t.same(staleEntries(loser, entries), [entries[2]]);
  const owner = udpServicePorts(state.planInput('shop/owner', 'IPv4'));
  t.same(staleEntries([...owner, ...loser], entries), [entries[2]]);
  t.same(staleEntries([], entries), []);
});

t.test('external IPs that are not allowed do not take part (S-10)', async (t) => {
  const objects = [udp('dns', '10.96.0.1', '2026-01-01T00:00:00Z'), dnsSlice('dns', '10.0.0.1')];
  const stale = entry('198.18.9.5', 53, '10.0.0.9');
  for (const allowed of [true, false]) {
    const ports = udpServicePorts(stateWith(objects, allowed).planInput('shop/dns', 'IPv4'));
    t.same(staleEntries(ports, [stale]), allowed ? [stale] : []);
  }
});

t.test('a Service that is gone takes no part', async (t) => {
  t.same(udpServicePorts(stateWith([dnsSlice('dns', '10.0.0.1')]).planInput('shop/dns', 'IPv4')), []);
});
