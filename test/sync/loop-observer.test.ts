// What the loop tells its observer: families, success, latency and trigger times, also when syncs fail.
import t from 'tap';
import { ProxyHealth } from '../../agent/serve/proxy-health.ts';
import { ServiceHealthServers } from '../../agent/serve/service-health.ts';
import { State } from '../../agent/state/state.ts';
import { ConntrackCleaner } from '../../agent/sync/conntrack-cleaner.ts';
import type { Reached, SyncObserver, SyncRound } from '../../agent/sync/observer.ts';
import { Planner } from '../../agent/sync/planner.ts';
import { SyncLoop } from '../../agent/sync/sync-loop.ts';
import { type Backend, noCounts, type SyncResult } from '../../backends/backend.ts';
import type { NodeSettings } from '../../backends/service-plan.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { rawNode, rawService, rawSlice } from '../support/kube-objects.ts';
import { SETTINGS } from '../support/plans.ts';

const START = Date.UTC(2026, 0, 1);
const FAMILIES = ['IPv4', 'IPv6'] as const;
const log = { error() {}, warn() {}, info() {}, debug() {} };
const DONE: SyncResult = { counts: noCounts(), refused: [] };

/** A loop on a backend that answers what `answers` says next, or else succeeds. */
function start(t: { teardown(fn: () => unknown): void }) {
  const clock = new FakeClock(START);
  const state = new State({ nodeName: 'node-0', startedMs: START, allowExternalIPs: true });
  const answers: (Error | SyncResult)[] = [];
  const answer = async (): Promise<SyncResult> => {
    await clock.sleep(5);
    const next = answers.shift() ?? DONE;
    if (next instanceof Error) throw next;
    return next;
  };
  let settings: NodeSettings = SETTINGS;
  const setSettings = (next: NodeSettings): void => {
    settings = next;
    loop.settingsChanged();
  };
  const rounds: SyncRound[] = [];
  const reached: Reached[] = [];
  const other: unknown[] = [];
  const observer: SyncObserver = {
    requested: (families) => void other.push(['requested', families.length]),
    planned: (changes, all) => void other.push(['planned', changes.length, all]),
    applied: (operation, seconds) => void other.push([operation, seconds]),
    reached: (r) => void reached.push(r),
    ended: (round) => void rounds.push(round),
  };
  const loop = new SyncLoop({
    state,
    backend: { start: answer, sync: answer, configure: answer } as unknown as Backend,
    health: new ProxyHealth({ syncPeriodMs: 30_000, clock }),
    serviceHealth: new ServiceHealthServers({
      addresses: { IPv4: [], IPv6: [] },
      proxyHealthy: () => true,
      onFailure: () => {},
    }),
    conntrack: new ConntrackCleaner({ state, log }),
    planner: new Planner({
      state,
      families: FAMILIES,
      addresses: { primaryFamily: 'IPv4', IPv4: '192.0.2.11', IPv6: '::1' },
    }),
    families: FAMILIES,
    settings: () => settings,
    minSyncMs: () => 10,
    syncPeriodMs: 30_000,
    log,
    clock,
    reclaimMemory: () => {},
    observer,
  });
  t.teardown(() => loop.stop());
  const apply = (kind: Parameters<State['apply']>[0], object: unknown): void => {
    if (state.apply(kind, object)) loop.request();
  };
  return { clock, state, loop, apply, answers, rounds, reached, other, setSettings };
}

const annotated = (ms: number, ...ips: string[]) =>
  rawSlice('web-1', 'web', ips, {
    metadata: {
      ...rawSlice('web-1', 'web', []).metadata,
      annotations: { 'endpoints.kubernetes.io/last-change-trigger-time': new Date(ms).toISOString() },
    },
  });

t.test('a start, a change of one family, and one that fails first', async (t) => {
  const { clock, state, loop, apply, answers, rounds, reached, other } = start(t);
  state.apply('Service', rawService('web'));
  state.apply('Service', rawService('api', { clusterIP: '10.96.0.2', clusterIPs: ['10.96.0.2'] }));
  loop.start();
  await clock.advance(100);
  t.same(rounds, [{ families: FAMILIES, full: true, reached: true, failed: [], seconds: 0.005 }]);
  t.same(
    reached,
    [{ triggerTimesMs: { IPv4: [], IPv6: [] }, oldestEventSeconds: null }],
    'no event asked for the first',
  );
  t.same(other.splice(0), [
    ['requested', 2],
    ['planned', 2, true],
    ['start', 0.005],
  ]);

  apply('EndpointSlice', annotated(START + 50, '10.128.0.1'));
  await clock.advance(100);
  t.same(rounds[1], { families: ['IPv4'], full: false, reached: true, failed: [], seconds: 0.005 });
  t.same(reached[1], { triggerTimesMs: { IPv4: [START + 50], IPv6: [] }, oldestEventSeconds: 0.005 });
  t.same(other.splice(0), [
    ['requested', 2],
    ['planned', 1, false],
    ['sync', 0.005],
  ]);

  answers.push(new Error('no memory'));
  apply('EndpointSlice', annotated(START + 190, '10.128.0.2'));
  await clock.advance(100);
  t.match(rounds[2], { families: ['IPv4'], reached: false, failed: ['IPv4'] });
  t.equal(reached.length, 2);
  t.equal(loop.unapplied, 1, 'kept for the next');
  apply('EndpointSlice', annotated(START + 290, '10.128.0.3'));
  await clock.advance(2000);
  t.match(rounds[3], { families: ['IPv4'], reached: true, failed: { length: 0 } });
  t.same(reached[2]!.triggerTimesMs.IPv4, [START + 190, START + 290], 'times of the failed one count too (E-48)');
  t.ok(reached[2]!.oldestEventSeconds! >= 0.1, `from the first event on: ${reached[2]!.oldestEventSeconds}`);
  t.equal(loop.unapplied, 0);
});

t.test('refused Services and a change of zone', async (t) => {
  const { clock, state, loop, apply, answers, rounds } = start(t);
  state.apply('Service', rawService('web'));
  loop.start();
  await clock.advance(100);
  answers.push({ counts: noCounts(), refused: [{ service: 'shop/web', family: 'IPv4', message: 'too large' }] });
  apply('Service', rawService('web', { ports: [{ name: 'http', protocol: 'TCP', port: 81 }] }));
  await clock.advance(100);
  t.match(rounds[1], { full: false, reached: true, failed: ['IPv4'] }, 'all others are in the kernel');
  t.equal(loop.unapplied, 1);
  await clock.advance(2000);
  t.match(rounds[2], { reached: true, failed: { length: 0 } });
  apply('Node', rawNode('node-0', { 'topology.kubernetes.io/zone': 'a' }));
  await clock.advance(100);
  t.match(rounds[3], { families: FAMILIES, full: true, reached: true });
});

t.test('settings of the node', async (t) => {
  const { clock, state, loop, answers, other, setSettings } = start(t);
  state.apply('Service', rawService('web'));
  loop.start();
  await clock.advance(100);
  const applied = (): unknown[] =>
    (other.splice(0) as [unknown][]).map(([what]) => what).filter((w) => w === 'configure');
  applied();
  setSettings(structuredClone(SETTINGS));
  await clock.advance(100);
  t.strictSame(applied(), [], 'the same ones cost nothing');
  const refused = [{ service: 'shop/web', family: 'IPv4', message: 'no memory' }] as const;
  answers.push({ counts: noCounts(), refused });
  setSettings({ ...SETTINGS, masqueradeAll: true });
  await clock.advance(100);
  t.strictSame(applied(), ['configure']);
  t.match(loop.report.refused, refused, 'what is refused with other ones is told');
  await clock.advance(2000);
  t.equal(loop.report.refused.length, 0, 'and tried again');
  answers.push({ counts: noCounts(), refused }, new Error('the sync after it fails'));
  setSettings(SETTINGS);
  await clock.advance(100);
  other.splice(0);
  await clock.advance(2000);
  t.strictSame(
    other.filter((entry) => (entry as [unknown])[0] === 'planned'),
    [['planned', 1, false]],
    'also when the sync after it fails',
  );
});
