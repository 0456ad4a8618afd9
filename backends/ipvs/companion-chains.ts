// Chains of the companion table, the same whatever the Services: for each rule the expressions and nft's text, side by
// side. A packet is looked at where it still has the service address; once IPVS has rewritten it, it passes `output` once
// more and matches no set there.
import type { Family } from '../../native/ip.ts';
import { CMP, META, PAYLOAD, reg, VERDICT } from '../../native/nftables/constants.ts';
import type { Expression } from '../../native/nftables/expression.ts';
import { PROTOCOL_NUMBER } from '../nft-table/fields.ts';
import {
  cmp,
  ctStateNew,
  drop,
  isLocal,
  jump,
  lookup,
  mark,
  markText,
  masquerade,
  masqueradeMarked,
  type Piece,
  type Rule,
  rule,
  Vocabulary,
  verdict,
} from '../nft-table/rule-parts.ts';
import type { NodeSettings } from '../service-plan.ts';
import { COMPANION, type CompanionSet } from './companion-schema.ts';

const end = (text: string, expression: Expression): Rule => ({ text, expressions: [expression] });
const DROP = end('drop', drop);
const RETURN = end('return', verdict(VERDICT.return));
const MASQUERADE = end('masquerade fully-random', masquerade);
const jumpTo = (chain: string): Rule => end(`jump ${chain}`, jump(chain));
const goTo = (chain: string): Rule => end(`goto ${chain}`, verdict(VERDICT.goto, chain));

const L4PROTO = (register: number): Expression => ({ name: 'meta', key: META.l4proto, dreg: reg(register) });
const DPORT = (register: number): Expression => ({
  name: 'payload',
  base: PAYLOAD.transport,
  offset: 2,
  len: 2,
  dreg: reg(register),
});
const NEW: Rule = { text: 'ct state new', expressions: ctStateNew };
const TO_THIS_NODE: Rule = { text: 'fib daddr type local', expressions: isLocal('daddr') };
const TO_NODE_PORT: Rule = {
  text: 'meta l4proto . th dport @node-masq',
  expressions: [L4PROTO(0), DPORT(1), lookup('node-masq' satisfies CompanionSet, 0)],
};
const TO_HEALTH_CHECK: Rule = {
  text: 'tcp dport @health',
  expressions: [
    L4PROTO(0),
    cmp(CMP.eq, 0, String.fromCharCode(PROTOCOL_NUMBER.TCP)),
    DPORT(0),
    lookup('health' satisfies CompanionSet, 0),
  ],
};

/** Conditions that depend on the family. */
class Conditions {
  readonly v: Vocabulary;

  constructor(family: Family) {
    this.v = new Vocabulary(family);
  }

  /** These fields, one after another, are in a set. */
  #among(set: CompanionSet, text: string, ...fields: readonly Piece[]): Rule {
    return { text: `${text} @${set}`, expressions: [...fields.flat(), lookup(set, 0)] };
  }

  /** Destination, protocol and port are in a set. */
  to(set: CompanionSet): Rule {
    return this.#among(set, this.v.keyText(), this.v.key(0));
  }

  toVip(): Rule {
    return this.#among('vips', `${this.v.ip} daddr`, this.v.address('daddr', 0));
  }

  /** The source may reach this destination. */
  allowedSource(): Rule {
    const { v } = this;
    return this.#among('sources', `${v.keyText()} . ${v.ip} saddr`, v.key(0), v.address('saddr', v.afterKey));
  }

  /** The source is itself a cluster IP of this port: the kernel picks it for what the node sends there. */
  fromCluster(): Rule {
    const { v } = this;
    const text = `${v.ip} saddr . meta l4proto . th dport`;
    return this.#among('cluster', text, v.address('saddr', 0), [L4PROTO(v.a), DPORT(v.a + 1)]);
  }

  /** An endpoint reaches itself (S-25). */
  hairpin(): Rule {
    const { v } = this;
    return this.#among('hairpin', `${v.ip} saddr . ${v.keyText()}`, v.address('saddr', 0), v.key(v.a));
  }
}

/** Which packets to a cluster IP are masqueraded (S-93). */
function clusterCondition(c: Conditions, node: NodeSettings): Rule[] {
  if (node.masqueradeAll) return [];
  const detector = node.families[c.v.family]?.detectLocal;
  return [detector ? c.v.detect(detector, true) : c.fromCluster()];
}

/** All chains with their rules, in the order they are to be created. */
export function companionChains(family: Family, node: NodeSettings): Map<string, Rule[]> {
  const c = new Conditions(family);
  const setMark: Rule = { text: markText(node), expressions: mark(node) };
  const chains = new Map<string, Rule[]>([
    // S-93; loopback sources are never marked.
    ['decide-cluster', [rule(...clusterCondition(c, node), setMark)]],
    [
      'decide',
      [
        rule(c.v.isLoopback('saddr'), RETURN),
        rule(c.to('cluster'), goTo('decide-cluster')),
        rule(c.to('masq'), setMark, RETURN),
        rule(c.to('direct'), RETURN),
        rule(TO_THIS_NODE, TO_NODE_PORT, setMark),
      ],
    ],
    // S-41.
    ['ranges', [rule(c.allowedSource(), RETURN), DROP]],
    // Ports of a service address that no Service has are not the host's either (V-46).
    [
      'vip-input',
      [
        rule(c.to('cluster'), RETURN),
        rule(c.to('masq'), RETURN),
        rule(c.to('direct'), RETURN),
        rule(TO_HEALTH_CHECK, RETURN),
        end('reject', c.v.reject),
      ],
    ],
  ]);
  const ranges = rule(c.to('limited'), jumpTo('ranges'));
  const base: Record<string, Rule[]> = {
    'nat-prerouting': [goTo('decide')],
    'nat-output': [goTo('decide')],
    'nat-postrouting': [masqueradeMarked(node), rule(c.hairpin(), MASQUERADE)],
    'filter-input': [ranges, rule(NEW, c.toVip(), goTo('vip-input'))],
    'filter-output': [ranges],
  };
  for (const name of COMPANION.baseChains.keys()) chains.set(name, base[name]!);
  return chains;
}
