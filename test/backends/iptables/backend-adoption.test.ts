// Taking over rules that kube-proxy wrote with iptables-nft: what is right stays as it is, whoever wrote it.
import { readFileSync } from 'node:fs';
import t from 'tap';
import { noCounts } from '../../../backends/backend.ts';
import { FAMILIES, type Family } from '../../../native/ip.ts';
import { RECORDINGS, type RecordingName } from '../../fixtures/sixty-services.ts';
import { linesOf, listing, TestBackend, touchedChains } from '../../support/iptables-backend.ts';
import { iptablesMissing, restore, saved } from '../../support/iptables-tool.ts';
import { EventLog, enterNamespace, nft } from '../../support/own-namespace.ts';
import { changeTo } from '../../support/plans.ts';
import { sixtyRules } from '../../support/sixty-rules.ts';

/** What kube-proxy wrote; rules without the counters, which need objects of their own. */
function recorded(name: string, family: Family): string {
  const file = new URL(`../../golden/iptables/${name}-nft-${family}.txt`, import.meta.url);
  return readFileSync(file, 'utf8')
    .replaceAll(/^.*localhost_nps_accepted_pkts.*\n/gm, '')
    .replaceAll(/-m nfacct --nfacct-name +\w+ /g, '');
}

/** Loads a text in pieces: an ordinary user's tool cannot send all of it at once. */
function load(family: Family, text: string): void {
  const PIECE = 150;
  for (const part of text.split('COMMIT\n').filter((piece) => piece.trim() !== '')) {
    const [table = '', ...lines] = part.trim().split('\n');
    const chains = lines.filter((line) => line.startsWith(':'));
    const rules = lines.filter((line) => line.startsWith('-A'));
    const pieces = [
      chains,
      ...Array.from({ length: Math.ceil(rules.length / PIECE) }, (_, i) => rules.slice(i * PIECE, (i + 1) * PIECE)),
    ];
    for (const piece of pieces) restore(family, [table, ...piece, 'COMMIT', ''].join('\n'), ['--noflush']);
  }
}

const missing = iptablesMissing();
if (missing !== null) t.test('with iptables', { skip: missing }, async () => {});
else if (await enterNamespace(t)) {
  const events = new EventLog();
  t.afterEach(() => nft('flush', 'ruleset'));

  for (const [name, { crowded }] of Object.entries(RECORDINGS)) {
    t.test(`${name}: sixty Services of all kinds`, async (t) => {
      for (const family of FAMILIES) load(family, recorded(name, family));
      const { plans, options } = await sixtyRules(name as RecordingName, 'IPv4');
      const before = nft('-a', 'list', 'ruleset');
      const text = listing();
      t.ok(text.length > 1800);
      const backend = new TestBackend({ events });
      t.teardown(() => backend.close());
      t.same((await backend.start(options.settings, plans)).counts, noCounts(), 'no rule is sent');
      t.equal(nft('-a', 'list', 'ruleset'), before, 'all handles are the same');
      t.equal(await backend.verify(), null);
      const own = (line: string): boolean => !/^:(PREROUTING|INPUT|FORWARD|OUTPUT|POSTROUTING) /.test(line);
      t.same(linesOf(backend.dump()).filter(own), text.filter(own), 'and they are what the backend believes in');

      const plan = plans.find((p) => p.name === 'load-balancer-everything' && p.family === 'IPv4')!;
      const port = plan.ports[0]!;
      const less = { ...plan, ports: [{ ...port, cluster: port.cluster.slice(1) }, ...plan.ports.slice(1)] };
      backend.takeCommits();
      t.same((await backend.sync([changeTo(less)])).refused, []);
      const touched = touchedChains(backend.takeCommits());
      t.ok(touched.length > 0 && touched.length <= 4, touched.join());
      t.equal(await backend.verify(), null);

      t.same((await backend.sync(plans.map((p) => ({ ...changeTo(p), plan: null })))).refused, []);
      t.notMatch(saved('IPv4').join('\n') + saved('IPv6').join('\n'), /KUBE-(SVC|SVL|EXT|FW|SEP)-|shop\//);
      t.equal(await backend.verify(), null);
      t.equal(crowded, name === 'crowded');
    });
  }

  t.test('rules saved and loaded again', async (t) => {
    const { plans, options } = await sixtyRules('default', 'IPv4');
    const backend = new TestBackend({ events });
    await backend.start(options.settings, plans);
    await backend.close();
    const texts = FAMILIES.map((family) => [family, `${saved(family).join('\n')}\n`] as const);
    nft('flush', 'ruleset');
    for (const [family, text] of texts) load(family, text);
    const again = new TestBackend({ events });
    t.teardown(() => again.close());
    t.same((await again.start(options.settings, plans)).counts, noCounts());
  });

  t.test('rules of another time: the difference is sent', async (t) => {
    const { plans, options } = await sixtyRules('default', 'IPv4');
    for (const family of FAMILIES) {
      // An endpoint that is gone, a rule that is too much, one that is missing, chains in another order.
      const text = recorded('default', family).replace(
        /^(-A KUBE-SERVICES .*node-port:http cluster IP.*)\n/m,
        '$1\n$1\n',
      );
      t.not(text, recorded('default', family));
      load(family, text.replace(/^-A KUBE-MARK-MASQ.*\n/m, ''));
    }
    const backend = new TestBackend({ events });
    t.teardown(() => backend.close());
    await backend.start(options.settings, plans);
    t.same(touchedChains(backend.takeCommits()), [
      'nat KUBE-MARK-MASQ: rewritten',
      'nat KUBE-SERVICES: a rule less',
      'nat KUBE-MARK-MASQ: rewritten',
      'nat KUBE-SERVICES: a rule less',
    ]);
    t.equal(await backend.verify(), null);
    t.same(events.errors, []);
  });
}
