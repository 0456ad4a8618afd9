// Random changes and faults: whatever happens, in the end the receiver has what the server has. The seed is in the test's name.
import t from 'tap';
import type { TestApiServer } from '../support/api-server.ts';
import { mulberry32 } from '../support/cluster.ts';
import { type Harness, service, startComplete, until } from './harness.ts';

const NAMES = Array.from({ length: 12 }, (_, i) => `s-${i}`);

type Step = (server: TestApiServer, random: () => number) => void;

const change: Step = ({ store }, random) => {
  const name = NAMES[Math.floor(random() * NAMES.length)]!;
  const exists = store.all('services').some((o) => o.name === name);
  if (exists && random() < 0.4) store.delete('Service', 'default', name);
  else store.put(service(name, { marker: String(random()), clusterIP: random() < 0.2 ? 'None' : '10.96.0.1' }));
};

const faults: readonly Step[] = [
  (server) => server.dropWatches('end'),
  (server) => server.dropWatches('cut'),
  (server) => server.sendRaw('services', 'garbage\n'),
  (server) => server.sendRaw('services', '{"type":"ADDED","object":{"met'),
  (server) => server.sendError('services', 500, 'InternalError'),
  (server) => server.sendError('services', 410, 'Expired'),
  (server) => server.store.compact(),
  (server) => server.sendBookmark('services'),
  (server, random) => server.failNext({ status: [401, 410, 429, 500, 503][Math.floor(random() * 5)]! }),
  (server, random) => {
    const all = server.store.all('services');
    const object = all[Math.floor(random() * all.length)];
    if (object !== undefined) server.sendRaw('services', `{"type":"MODIFIED","object":${object.json}}\n`);
  },
];

function agrees({ server, sink }: Harness): boolean {
  const want = server.store.all('services').filter((o) => o.clusterIP !== 'None');
  if (want.length !== sink.objects.size) return false;
  return want.every((o) => {
    const got = sink.objects.get(`Service ${o.key}`) as { spec: unknown } | undefined;
    return JSON.stringify(got?.spec) === JSON.stringify(JSON.parse(o.json).spec);
  });
}

for (const [seed, streamingList] of [
  [1, 'serve'],
  [2, 'serve'],
  [3, 'refuse'],
  [4, 'refuse'],
] as const) {
  t.test(`seed ${seed}, streaming list: ${streamingList}`, async (t) => {
    const random = mulberry32(seed);
    const h = await startComplete(t, { streamingList, objects: NAMES.slice(0, 6).map((name) => service(name)) });
    for (let round = 0; round < 20; round++) {
      for (let i = 0; i < 10; i++) {
        change(h.server, random);
        if (random() < 0.3) faults[Math.floor(random() * faults.length)]!(h.server, random);
        if (random() < 0.3) await new Promise((resolve) => setTimeout(resolve, random() * 3));
      }
      await until(`round ${round} agrees`, () => agrees(h));
    }
    t.equal(h.sink.calls.filter((call) => call === '=Service').length, 0, 'complete was not said again');
    t.equal(h.status('Service').objects, h.sink.objects.size);
  });
}
