// Health check node ports, beyond the recorded vectors.
import t from 'tap';
import { healthCheckPort } from '../../agent/plan/health-check-ports.ts';
import { State } from '../../agent/state/state.ts';
import { rawService, rawSlice } from '../support/kube-objects.ts';

t.test('health check port: per family, only where the Service exists (S-52)', async (t) => {
  const local = { addresses: ['10.0.0.1'], nodeName: 'worker-a' };
  const spec = { type: 'LoadBalancer', externalTrafficPolicy: 'Local', healthCheckNodePort: 32001 };
  const state = new State({ nodeName: 'worker-a', startedMs: 0, allowExternalIPs: true });
  state.apply('Service', rawService('web', spec));
  state.apply('EndpointSlice', rawSlice('web-1', 'web', [local]));
  const found = (family: 'IPv4' | 'IPv6') => healthCheckPort(state.planInput('shop/web', family));
  t.same(found('IPv4'), { service: 'shop/web', family: 'IPv4', port: 32001, localEndpoints: 1 });
  t.equal(found('IPv6'), null);
  state.apply('Service', rawService('web', { ...spec, externalTrafficPolicy: 'Cluster' }));
  t.equal(found('IPv4'), null);
});
