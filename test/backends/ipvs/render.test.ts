// What plans lead to, as text: all of it, one Service, nothing.
import t from 'tap';
import { renderPlans } from '../../../backends/ipvs/render.ts';
import type { Frontend } from '../../../backends/service-plan.ts';
import { golden } from '../../support/golden.ts';
import { endpoint, portPlan, SETTINGS, servicePlan } from '../../support/plans.ts';

const VIP: Frontend = { kind: 'loadBalancer', ip: '198.18.0.10', port: 443 };
const NODE_PORT: Frontend = { kind: 'nodePort', ip: null, port: 30443 };
const PLANS = [
  servicePlan('web', [
    portPlan({ cluster: [endpoint('10.128.4.7', 8080, true), endpoint('10.128.7.7')], affinitySeconds: 10_800 }),
    portPlan({
      portName: 'tls',
      frontends: [{ kind: 'clusterIP', ip: '10.96.0.1', port: 443 }, VIP, NODE_PORT],
      cluster: [endpoint('10.128.7.7', 8443)],
      sourceRanges: ['203.0.113.0/25'],
    }),
  ]),
  servicePlan('idle', [portPlan({ protocol: 'UDP', frontends: [{ kind: 'clusterIP', ip: '10.96.0.2', port: 53 }] })]),
  servicePlan(
    'web',
    [
      portPlan({
        frontends: [{ kind: 'clusterIP', ip: 'fd00:10:96::1', port: 80 }, NODE_PORT],
        cluster: [endpoint('fd00:10:128:4::7', 8080, true)],
        externalLocal: true,
      }),
    ],
    'IPv6',
  ),
];
const RR = { scheduler: 'rr' };

t.test('all Services', async (t) => {
  const text = renderPlans(SETTINGS, PLANS, RR);
  golden(t, 'ipvs/render-servers.txt', text.slice(0, text.indexOf('\ntable ')));
  for (const line of ['\ntable ip kubeplumb-ipvs {\n', '}\n\ntable ip6 kubeplumb-ipvs {\n', '\tchain vip-input {\n']) {
    t.ok(text.includes(line), line);
  }
  t.match(text, /10\.96\.0\.2 \. udp \. 53 comment "shop\/idle"/);
});

t.test('one Service', async (t) => {
  golden(t, 'ipvs/render-web.txt', renderPlans(SETTINGS, PLANS, RR, 'shop/web'));
});

t.test('a Service that is not there', async (t) => {
  t.equal(renderPlans(SETTINGS, PLANS, RR, 'shop/none'), '');
});

t.test('a virtual server that two Services want is the first one’s', async (t) => {
  const on = (name: string, ip: string) => {
    const frontends: Frontend[] = [{ kind: 'externalIP', ip: '192.0.2.11', port: 30443 }];
    return servicePlan(name, [portPlan({ frontends, cluster: [endpoint(ip)] })]);
  };
  const nodePort = servicePlan('np', [portPlan({ frontends: [NODE_PORT], cluster: [endpoint('10.128.7.9')] })]);
  const text = renderPlans(SETTINGS, [on('ext', '10.128.7.8'), nodePort], RR);
  t.match(text, /-r 10\.128\.7\.8:8080/);
  t.notMatch(text, /-r 10\.128\.7\.9:8080/);
});
