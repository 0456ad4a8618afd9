// What State tells a sync: changed Services, conntrack requests, zone, trigger times; and its Problems.
import t from 'tap';
import type { Problem } from '../../agent/state/objects.ts';
import { State } from '../../agent/state/state.ts';
import { type Raw, rawNode, rawService, rawSlice } from '../support/kube-objects.ts';

const STARTED = Date.UTC(2026, 0, 1);

function newState() {
  const told: Problem[] = [];
  const onProblems = (problems: readonly Problem[]) => void told.push(...problems);
  return { state: new State({ nodeName: 'worker-a', startedMs: STARTED, allowExternalIPs: true, onProblems }), told };
}

const changed = (state: State) =>
  [...state.takeChanges().services].map(([key, families]) => [key, ...families].join(' '));

t.test('a Service event is a change when its data differs from the last sync (E-46)', async (t) => {
  const { state } = newState();
  t.equal(state.hasChanges(), false);
  t.equal(state.apply('Service', rawService('web')), true);
  t.equal(state.hasChanges(), true);
  t.same(changed(state), ['shop/web IPv4']);
  t.equal(state.apply('Service', rawService('web', { selector: { a: 'b' } }, { resourceVersion: '2' })), false);
  t.equal(state.hasChanges(), false);
  state.apply('Service', rawService('web', { internalTrafficPolicy: 'Local' }));
  state.apply('Service', rawService('web'));
  t.same(changed(state), [], 'changed and changed back');
  t.equal(state.remove('Service', 'shop', 'web'), true);
  t.same(changed(state), ['shop/web IPv4']);
  t.equal(state.remove('Service', 'shop', 'web'), false);
  t.same(changed(state), []);
});

t.test('a dual-stack Service changes in the families concerned only', async (t) => {
  const { state } = newState();
  const dual = { ipFamilies: ['IPv4', 'IPv6'], clusterIPs: ['10.96.0.1', 'fd00::1'] };
  state.apply('Service', rawService('web', dual));
  t.same(changed(state), ['shop/web IPv4 IPv6']);
  state.apply('Service', rawService('web', { ...dual, externalIPs: ['2001:db8::5'] }));
  t.same(changed(state), ['shop/web IPv6']);
});

t.test('an object that is no longer selected is deleted (E-1, E-2, E-6)', async (t) => {
  const { state } = newState();
  const unselected: Raw[] = [
    rawService('web', { clusterIP: 'None', clusterIPs: ['None'] }),
    rawService('web', { type: 'ExternalName' }),
    rawService('web', {}, { labels: { 'service.kubernetes.io/service-proxy-name': '' } }),
    rawService('web', { clusterIP: 5 }),
  ];
  for (const raw of unselected) {
    state.apply('Service', rawService('web'));
    changed(state);
    t.equal(state.apply('Service', raw), true);
    t.equal(state.service('shop/web'), null);
    t.same(changed(state), ['shop/web IPv4']);
  }
  state.apply('EndpointSlice', rawSlice('web-1', 'web', ['10.0.0.1']));
  changed(state);
  const labels = { 'kubernetes.io/service-name': 'web', 'service.kubernetes.io/headless': '' };
  const metadata = { namespace: 'shop', name: 'web-1', labels };
  t.equal(state.apply('EndpointSlice', rawSlice('web-1', 'web', ['10.0.0.1'], { metadata })), true);
  t.same(state.slices('shop/web', 'IPv4'), []);
  t.same(changed(state), ['shop/web IPv4']);
});

t.test('a slice event is a change when the slice differs or has a new resourceVersion (E-45)', async (t) => {
  const { state } = newState();
  const slice = (resourceVersion: string | undefined, ...ips: string[]) =>
    rawSlice('web-1', 'web', ips, {
      metadata: { namespace: 'shop', name: 'web-1', resourceVersion, labels: { 'kubernetes.io/service-name': 'web' } },
    });
  t.equal(state.apply('EndpointSlice', slice('1', '10.0.0.1')), true);
  changed(state);
  t.equal(state.apply('EndpointSlice', slice('1', '10.0.0.1')), false);
  t.same(changed(state), []);
  t.equal(state.apply('EndpointSlice', slice('2', '10.0.0.1')), true);
  t.same(changed(state), ['shop/web IPv4']);
  t.equal(state.apply('EndpointSlice', slice('2', '10.0.0.2')), true, 'a manifest that keeps its resourceVersion');
  t.equal(state.apply('EndpointSlice', slice(undefined, '10.0.0.2')), true);
  t.equal(state.apply('EndpointSlice', slice(undefined, '10.0.0.2')), false);
  t.equal(state.remove('EndpointSlice', 'shop', 'no-such'), false);
});

t.test('a slice that moves to another Service changes both', async (t) => {
  const { state } = newState();
  state.apply('EndpointSlice', rawSlice('s', 'web', ['10.0.0.1']));
  changed(state);
  state.apply('EndpointSlice', rawSlice('s', 'api', ['10.0.0.1']));
  t.same(changed(state), ['shop/web IPv4', 'shop/api IPv4']);
  t.equal(state.slices('shop/web', 'IPv4').length, 0);
  t.equal(state.slices('shop/api', 'IPv4').length, 1);
  state.apply('EndpointSlice', { ...rawSlice('s', 'api', ['fd00::1']), addressType: 'IPv6' });
  t.same(changed(state), ['shop/api IPv4 IPv6']);
});

t.test('conntrack rounds are requested by slices with UDP, for all UDP Services that changed (E-47)', async (t) => {
  const { state } = newState();
  const ports = [{ name: 'dns', protocol: 'UDP', port: 53 }];
  const dns = (name: string, ip: string) => rawService(name, { ports, clusterIP: ip, clusterIPs: [ip] });
  state.apply('Service', dns('dns', '10.96.0.10'));
  state.apply('Service', dns('dns2', '10.96.0.11'));
  state.apply('Service', rawService('web'));
  t.same(state.takeChanges().conntrack, { IPv4: null, IPv6: null }, 'Services alone request nothing');
  state.apply('EndpointSlice', rawSlice('dns-1', 'dns', [], { ports }));
  t.equal(state.takeChanges().conntrack.IPv4, null, 'a UDP port without endpoints');
  state.remove('Service', 'shop', 'dns2');
  state.apply('EndpointSlice', rawSlice('dns-1', 'dns', ['10.0.0.1'], { ports }));
  t.same(state.takeChanges().conntrack, { IPv4: new Set(['shop/dns']), IPv6: null });
  state.apply('Service', dns('dns2', '10.96.0.12'));
  state.remove('EndpointSlice', 'shop', 'dns-1');
  t.same(state.takeChanges().conntrack.IPv4, new Set(['shop/dns', 'shop/dns2']), 'and those that waited');
  state.apply('EndpointSlice', rawSlice('web-1', 'web', ['10.0.0.1']));
  t.equal(state.takeChanges().conntrack.IPv4, null);
});

t.test('the own Node alone counts, and outlives its deletion (E-38, E-41)', async (t) => {
  const { state } = newState();
  const zone = (name: string) => ({ 'topology.kubernetes.io/zone': name });
  t.equal(state.apply('Node', rawNode('worker-b', zone('z'))), false);
  t.equal(state.zone, '');
  t.equal(state.apply('Node', rawNode('worker-a', zone('eu-1a'))), true);
  t.match(state.takeChanges(), { zoneChanged: true, nodeChanged: true });
  t.equal(state.apply('Node', rawNode('worker-a', { ...zone('eu-1a'), other: 'x' })), false);
  t.match(state.takeChanges(), { zoneChanged: false, nodeChanged: false });
  t.equal(state.remove('Node', '', 'worker-a'), false);
  t.equal(state.zone, 'eu-1a');
  state.apply('Node', rawNode('worker-a', zone('eu-1b')));
  state.apply('Node', { ...rawNode('worker-a', zone('eu-1a')), spec: { taints: [{ key: 'x' }] } });
  t.match(state.takeChanges(), { zoneChanged: false, nodeChanged: true });
});

t.test('ServiceCIDRs are united over all objects', async (t) => {
  const { state } = newState();
  const cidr = (name: string, ...cidrs: string[]) => ({ metadata: { name }, spec: { cidrs } });
  t.equal(state.apply('ServiceCIDR', cidr('b', '10.96.0.0/16', 'fd00::/112')), true);
  t.equal(state.apply('ServiceCIDR', cidr('a', '10.96.0.0/16', '10.32.0.0/16')), true);
  t.equal(state.apply('ServiceCIDR', cidr('a', '10.96.0.0/16', '10.32.0.0/16')), false);
  t.same(state.serviceCidrs('IPv4'), ['10.32.0.0/16', '10.96.0.0/16']);
  t.equal(state.takeChanges().serviceCidrsChanged, true);
  t.equal(state.remove('ServiceCIDR', '', 'a'), true);
  t.same(state.serviceCidrs('IPv4'), ['10.96.0.0/16']);
  t.equal(state.remove('ServiceCIDR', '', 'a'), false);
});

t.test('trigger times: not from before the start, discarded by a deletion (E-48)', async (t) => {
  const { state } = newState();
  const slice = (name: string, service: string, text: string) => {
    const labels = { 'kubernetes.io/service-name': service };
    const annotations = { 'endpoints.kubernetes.io/last-change-trigger-time': text };
    return rawSlice(name, service, ['10.0.0.1'], { metadata: { namespace: 'shop', name, labels, annotations } });
  };
  state.apply('EndpointSlice', slice('a-1', 'a', '2025-12-31T23:59:59Z'));
  state.apply('EndpointSlice', slice('a-1', 'a', '2026-01-01T00:00:01.5Z'));
  state.apply('EndpointSlice', slice('b-1', 'b', '2026-01-01T00:00:02Z'));
  state.apply('EndpointSlice', slice('b-2', 'b', '2026-01-01T00:00:03Z'));
  state.remove('EndpointSlice', 'shop', 'b-1');
  state.apply('EndpointSlice', slice('b-2', 'b', '2026-01-01T00:00:04Z'));
  t.same(state.takeChanges().triggerTimesMs, { IPv4: [STARTED + 1500, STARTED + 4000], IPv6: [] });
  t.same(state.takeChanges().triggerTimesMs.IPv4, []);
});

t.test('each Problem is told once, and forgotten when the object is fixed or gone', async (t) => {
  const { state, told } = newState();
  const broken = rawService('web', { externalIPs: ['x'] });
  state.apply('Service', broken);
  state.apply('Service', { ...broken, metadata: { ...broken.metadata, annotations: {} } });
  t.equal(told.length, 1);
  t.match(told[0], { object: 'Service shop/web', field: 'spec.externalIPs[0]', message: '"x" is no IP address' });
  state.apply('Service', rawService('web', { externalIPs: ['x', 'y'] }));
  t.equal(told.length, 2, 'only the new one');
  t.equal(state.problems().length, 2);
  state.apply('Service', rawService('web'));
  t.same(state.problems(), []);
  state.apply('Service', broken);
  t.equal(told.length, 3, 'broken again is told again');
  state.remove('Service', 'shop', 'web');
  t.same(state.problems(), []);
  state.apply('EndpointSlice', rawSlice('web-1', 'web', ['127.0.0.1']));
  state.apply('EndpointSlice', { metadata: 5 });
  t.same(
    state.problems().map((problem) => problem.object),
    ['EndpointSlice shop/web-1', 'EndpointSlice ?/?'],
  );
  state.remove('EndpointSlice', '', '');
  state.remove('EndpointSlice', 'shop', 'web-1');
  t.same(state.problems(), []);
  t.equal(told.length, 5);
});

t.test('events are counted, changed or not, and what no sync has taken (P-81)', async (t) => {
  const { state } = newState();
  const slice = rawSlice('web-1', 'web', ['10.0.0.1'], { metadata: { ...rawSlice('web-1', 'web', []).metadata } });
  state.apply('Service', rawService('web'));
  state.apply('Service', rawService('web'));
  state.apply('EndpointSlice', slice);
  state.apply('EndpointSlice', slice);
  t.same(state.eventCounts(), { serviceEvents: 2, sliceEvents: 2, servicesPending: 1, slicesPending: 1 });
  state.takeChanges();
  t.same(state.eventCounts(), { serviceEvents: 2, sliceEvents: 2, servicesPending: 0, slicesPending: 0 });
  state.remove('EndpointSlice', 'shop', 'web-1');
  state.remove('EndpointSlice', 'shop', 'unknown');
  state.remove('Service', 'shop', 'unknown');
  t.same(state.eventCounts(), { serviceEvents: 2, sliceEvents: 3, servicesPending: 0, slicesPending: 1 });
});
