// Two slices of a Service that do not agree about an endpoint.
import t from 'tap';
import { State } from '../../agent/state/state.ts';
import { type Raw, rawService, rawSlice } from '../support/kube-objects.ts';

const entry = (ready: boolean, terminating = false): Raw => ({
  addresses: ['10.128.0.9'],
  conditions: { ready, terminating },
});

function newState() {
  const told: string[] = [];
  const state = new State({
    nodeName: 'worker-a',
    startedMs: 0,
    allowExternalIPs: true,
    onProblems: (problems) => void told.push(...problems.map(({ object, message }) => `${object}: ${message}`)),
  });
  state.apply('Service', rawService('web'));
  return { state, told };
}
const apply = (state: State, ...slices: readonly Raw[]): void => {
  for (const slice of slices) state.apply('EndpointSlice', slice);
  state.takeChanges();
};
const MESSAGE = 'EndpointSlice shop/web-2: EndpointSlice shop/web-1 says otherwise of 10.128.0.9:8080';

t.test('is told once, of the later slice, and forgotten when it is over', async (t) => {
  const { state, told } = newState();
  apply(state, rawSlice('web-2', 'web', [entry(false)]), rawSlice('web-1', 'web', [entry(true)]));
  t.same(told, [MESSAGE]);
  apply(state, rawSlice('web-1', 'web', [entry(true), '10.128.0.10']));
  t.equal(told.length, 1, 'a change elsewhere in the slice is no news');
  t.match(state.problems(), [{ object: 'EndpointSlice shop/web-2', field: 'endpoints' }]);
  apply(state, rawSlice('web-1', 'web', [entry(false)]));
  t.same(state.problems(), []);
});

t.test('ends with either slice, and when a slice moves to another Service', async (t) => {
  for (const name of ['web-1', 'web-2']) {
    const { state } = newState();
    apply(state, rawSlice('web-1', 'web', [entry(true)]), rawSlice('web-2', 'web', [entry(false)]));
    t.equal(state.problems().length, 1);
    state.remove('EndpointSlice', 'shop', name);
    state.takeChanges();
    t.same(state.problems(), [], `${name} is gone`);
  }
  const { state } = newState();
  apply(state, rawSlice('web-1', 'web', [entry(true)]), rawSlice('web-2', 'web', [entry(false)]));
  apply(state, rawSlice('web-2', 'other', [entry(false)]));
  t.same(state.problems(), []);
});

t.test('a terminating entry beside another one is usual (E-18), and so is one told twice alike', async (t) => {
  const { state, told } = newState();
  apply(state, rawSlice('web-1', 'web', [entry(false, true)]), rawSlice('web-2', 'web', [entry(true)]));
  apply(state, rawSlice('web-1', 'web', [entry(true)]));
  t.same(told, []);
});
