// ServiceCIDRs may be missing or forbidden (P-91).
import t from 'tap';
import { makeServiceCidr } from '../support/cluster.ts';
import { service, startComplete, until } from './harness.ts';

t.test('an API without ServiceCIDRs completes without them', async (t) => {
  const { sink, log, status } = await startComplete(t, { objects: [service('a')], without: ['servicecidrs'] });
  t.same([...sink.objects.keys()], ['Service default/a']);
  t.equal(log.count('Going on without these objects'), 1);
  t.match(status('ServiceCIDR'), { complete: true, objects: 0, lastError: /404/ });
});

t.test('forbidden ServiceCIDRs are asked for again after five minutes', async (t) => {
  const h = await startComplete(t, {
    objects: [makeServiceCidr()],
    prepare: (server) => {
      const failure = { status: 403, when: (r: { resource: string }) => r.resource === 'servicecidrs' };
      server.failNext(failure, failure);
    },
  });
  const asked = () => h.server.requests.filter((r) => r.resource === 'servicecidrs').length;
  t.equal(asked(), 1);
  await h.timers.clock.advance(299_999);
  t.equal(asked(), 1);
  await h.timers.clock.advance(1);
  await until('asked again', () => asked() === 2);
  await until('waiting', () => h.timers.clock.pendingTimers > 0);
  await new Promise((resolve) => setTimeout(resolve, 20));
  await h.timers.clock.advance(300_000);
  await until('delivered', () => h.sink.objects.has('ServiceCIDR /kubernetes'));
  t.equal(h.log.count('Going on without'), 1, 'logged once');
  t.notOk(h.sink.calls.includes('=ServiceCIDR'), 'complete only once');
});
