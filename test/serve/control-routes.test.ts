import t from 'tap';
import type { ExplainerOptions } from '../../agent/explain/explainer.ts';
import { controlRoutes } from '../../agent/serve/control-routes.ts';
import type { ControlAnswer } from '../../agent/serve/control-socket.ts';
import { State } from '../../agent/state/state.ts';
import type { Status } from '../../agent/status.ts';
import { rawService, rawSlice } from '../support/kube-objects.ts';
import { SETTINGS } from '../support/plans.ts';

function setUp() {
  const state = new State({ nodeName: 'node-a', startedMs: 0, allowExternalIPs: true });
  const explained: ExplainerOptions = {
    state,
    families: ['IPv4'],
    addresses: { primaryFamily: 'IPv4', IPv4: '192.0.2.11', IPv6: '::1' },
    settings: SETTINGS,
    scheduler: null,
    refused: [{ service: 'shop/web', family: 'IPv4', message: 'no memory' }],
  };
  let started = false;
  const backend = { dumpParts: (service?: string) => ['rules of ', service ?? 'all'] };
  const status = { reasons: ['waiting for the first list of Node'] } as unknown as Status;
  const routes = controlRoutes({ backend, status: () => status, explained: () => (started ? explained : null) });
  return {
    state,
    start() {
      started = true;
    },
    ask(path: string) {
      const [route = '', query] = path.split('?');
      const { status, body } = routes[route]!(new URLSearchParams(query)) as ControlAnswer;
      const text = [...body].join('');
      return { status, body: text.startsWith('rules') ? text : JSON.parse(text) };
    },
  };
}

t.test('before there are rules', async (t) => {
  const { ask } = setUp();
  t.match(ask('/status'), { status: 200, body: { reasons: ['waiting for the first list of Node'] } });
  const answer = { status: 503, body: { error: 'the agent has no rules yet: waiting for the first list of Node' } };
  t.same(ask('/dump'), answer);
  t.same(ask('/explain?service=shop/web'), answer);
});

t.test('rules and explanations', async (t) => {
  const { ask, start, state } = setUp();
  start();
  t.same(ask('/explain'), { status: 200, body: [] });
  state.apply('Service', rawService('web'));
  state.apply(
    'Service',
    rawService('bad', { clusterIP: '10.96.0.2', clusterIPs: ['10.96.0.2'], ports: [{ port: 0 }] }),
  );
  state.apply('EndpointSlice', rawSlice('web-1', 'web', ['10.1.1.1', '127.0.0.1']));
  state.takeChanges();
  t.same(ask('/dump'), { status: 200, body: 'rules of all' });
  t.same(ask('/dump?service=shop/web'), { status: 200, body: 'rules of shop/web' });
  t.match(ask('/explain?service=shop%2Fweb'), {
    status: 200,
    body: [
      {
        service: 'shop/web',
        problems: [{ object: 'EndpointSlice shop/web-1', field: 'endpoints[1].addresses' }],
        refused: [{ family: 'IPv4', message: 'no memory' }],
      },
    ],
  });
  const all = ask('/explain').body as { service: string; problems: unknown[]; refused: unknown[] }[];
  t.match(all, [
    { service: 'shop/bad', problems: [{ field: 'spec.ports[0].port' }], refused: { length: 0 } },
    { service: 'shop/web' },
  ]);
});

t.test('a Service that is not there', async (t) => {
  const { ask, start, state } = setUp();
  start();
  for (const name of ['web', 'wed', 'cart']) state.apply('Service', rawService(name));
  state.apply('Service', { metadata: { namespace: 'shop', name: 'wen' }, spec: 'x' });
  for (const path of ['/dump', '/explain']) {
    t.same(ask(`${path}?service=shop/wen`), {
      status: 404,
      body: {
        error: 'this node handles no Service shop/wen',
        similar: ['shop/web', 'shop/wed'],
        problems: [{ object: 'Service shop/wen', field: 'spec', message: 'is "x" instead of an object' }],
      },
    });
  }
  t.same(ask('/dump?service=default/cart').body.similar, ['shop/cart']);
  t.same(ask('/dump?service=').body.similar, []);
});
