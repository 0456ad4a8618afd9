// The chains every table has, whatever its Services: for each rule the expressions and nft's text, side by side.
import type { Family } from '../../native/ip.ts';
import { CMP, CT, reg } from '../../native/nftables/constants.ts';
import type { Expression } from '../../native/nftables/expression.ts';
import {
  cmp,
  ctStateNew,
  drop,
  immediateZero,
  isLocal,
  jump,
  lookup,
  mark,
  markText,
  maskBits,
  masquerade,
  masqueradeMarked,
  type Rule,
  Vocabulary,
} from '../nft-table/rule-parts.ts';
import type { FamilySettings, NodeSettings } from '../service-plan.ts';
import { EXTERNAL_LOCAL, NODEPORT_LOCAL } from './actions.ts';
import { BASE_CHAINS, type SetName } from './schema.ts';
import { followWord, goto, loadPriority, setPriority, WORD_BIT } from './word-parts.ts';

/** Rules that depend on the node's settings are methods, so that each family is described once. */
class RuleBook {
  readonly #v: Vocabulary;
  readonly #settings: FamilySettings;
  readonly #node: NodeSettings;

  constructor(family: Family, node: NodeSettings) {
    const settings = node.families[family];
    if (!settings) throw new Error(`no settings for ${family}`);
    this.#v = new Vocabulary(family);
    this.#settings = settings;
    this.#node = node;
  }

  /** The destination is an address node ports are served on (S-50). */
  get #nodePortAddress(): Rule {
    const v = this.#v;
    if (this.#settings.nodePortAddresses !== 'all') {
      return {
        text: `${v.ip} daddr @nodeport-ips`,
        expressions: [...v.address('daddr', 0), lookup('nodeport-ips', 0)],
      };
    }
    const loopback = v.isLoopback('daddr', true);
    return {
      text: `fib daddr type local ${loopback.text}`,
      expressions: [...isLocal('daddr'), ...loopback.expressions],
    };
  }

  /** A lookup of the frontend key in a map of words, then on to the chain. */
  #wordFrom(map: SetName, actions: SetName, anyAddress = false): Rule {
    const v = this.#v;
    return {
      text: `meta priority set ${v.keyText(anyAddress)} map @${map} meta priority vmap @${actions}`,
      expressions: [...v.key(0, anyAddress), lookup(map, 0, reg(0)), ...followWord(actions)],
    };
  }

  #dispatch(): Rule[] {
    const v = this.#v;
    const rules: Rule[] = [];
    const clusterIp: Rule = {
      text: `${v.ip} daddr @cluster-ips`,
      expressions: [...v.address('daddr', 0), lookup('cluster-ips', 0)],
    };
    const { detectLocal } = this.#settings;
    if (this.#node.masqueradeAll) {
      rules.push({
        text: `${clusterIp.text} ${markText(this.#node)}`,
        expressions: [...clusterIp.expressions, ...mark(this.#node)],
      });
    } else if (detectLocal) {
      const remote = this.#v.detect(detectLocal, true);
      rules.push({
        text: `${clusterIp.text} ${remote.text} ${markText(this.#node)}`,
        expressions: [...clusterIp.expressions, ...remote.expressions, ...mark(this.#node)],
      });
    }
    // Twice: a lookup may miss an element that a commit is just replacing; the second one finds the new element.
    const services = this.#wordFrom('services', 'actions');
    rules.push(services, services);
    const accepted = this.#nodePortAddress;
    rules.push({
      text: `meta priority set ${v.keyText(true)} map @nodeports ${accepted.text} meta priority vmap @actions`,
      expressions: [
        ...v.key(0, true),
        lookup('nodeports', 0, reg(0)),
        setPriority,
        ...accepted.expressions,
        loadPriority(0),
        goto('actions', 0),
      ],
    });
    return rules;
  }

  /** externalTrafficPolicy Local: pods and the node itself take the short circuit to all endpoints (S-20). */
  #policyLocal(anyAddress: boolean): Rule[] {
    const shortCircuit = this.#wordFrom('short-circuit', 'local-actions', anyAddress);
    const { detectLocal } = this.#settings;
    const rules: Rule[] = [];
    if (detectLocal) {
      const pod = this.#v.detect(detectLocal, false);
      rules.push({
        text: `${pod.text} ${shortCircuit.text}`,
        expressions: [...pod.expressions, ...shortCircuit.expressions],
      });
    }
    rules.push({
      text: `fib saddr type local ${markText(this.#node)} ${shortCircuit.text}`,
      expressions: [...isLocal('saddr'), ...mark(this.#node), ...shortCircuit.expressions],
    });
    rules.push(this.#wordFrom('local-only', 'local-actions', anyAddress));
    return rules;
  }

  #sourceRanges(): Rule[] {
    const v = this.#v;
    const source = v.address('saddr', v.afterKey);
    return [
      {
        text: `${v.keyText()} @source-restricted ${v.keyText()} . ${v.ip} saddr != @source-allowed drop`,
        expressions: [
          ...v.key(0),
          lookup('source-restricted', 0),
          ...v.key(0),
          ...source,
          lookup('source-allowed', 0, null, true),
          drop,
        ],
      },
    ];
  }

  #masquerading(): Rule[] {
    const v = this.#v;
    return [
      {
        text: 'meta priority & 8000:0 != none meta priority set none',
        expressions: [
          loadPriority(0),
          maskBits(0, WORD_BIT),
          cmp(CMP.ne, 0, immediateZero),
          { name: 'immediate', dreg: reg(0), data: immediateZero },
          setPriority,
        ],
      },
      masqueradeMarked(this.#node),
      {
        text: `ct status dnat ${v.ip} saddr . ${v.keyText()} @hairpin masquerade fully-random`,
        expressions: [
          { name: 'ct', key: CT.status, dreg: reg(0) },
          maskBits(0, 0x20),
          cmp(CMP.ne, 0, immediateZero),
          ...v.address('saddr', 0),
          ...v.key(v.a),
          lookup('hairpin', 0),
          masquerade,
        ],
      },
    ];
  }

  #endpointsCheck(): Rule[] {
    const v = this.#v;
    const check = (set: SetName, text: string, end: Expression): Rule => ({
      text: `${v.keyText()} @${set} ${text}`,
      expressions: [...v.key(0), lookup(set, 0), end],
    });
    return [check('no-endpoints-drop', 'drop', drop), check('no-endpoints-reject', 'reject', this.#v.reject)];
  }

  #nodeportEndpointsCheck(): Rule[] {
    const v = this.#v;
    const accepted = this.#nodePortAddress;
    const check = (set: SetName, text: string, end: Expression): Rule => ({
      text: `${v.keyText(true)} @${set} ${accepted.text} ${text}`,
      expressions: [...v.key(0, true), lookup(set, 0), ...accepted.expressions, end],
    });
    return [check('no-endpoints-drop', 'drop', drop), check('no-endpoints-reject', 'reject', this.#v.reject)];
  }

  #serviceCidrsCheck(): Rule[] {
    return this.#settings.serviceCidrs.map((cidr) => {
      const inside = this.#v.inCidr('daddr', cidr);
      return { text: `${inside.text} drop`, expressions: [...inside.expressions, drop] };
    });
  }

  /** All chains whose rules do not depend on Services, base chains included, in the order they must be created. */
  fixedChains(): Map<string, Rule[]> {
    const jumpTo = (chain: string): Rule => ({ text: `jump ${chain}`, expressions: [jump(chain)] });
    const jumpNew = (chain: string): Rule => ({
      text: `ct state new jump ${chain}`,
      expressions: [...ctStateNew, jump(chain)],
    });
    const v = this.#v;
    const base: Record<string, Rule> = {
      'filter-prerouting-pre-dnat': jumpNew('source-ranges'),
      'filter-output-pre-dnat': jumpNew('source-ranges'),
      'nat-prerouting': jumpTo('dispatch'),
      'nat-output': jumpTo('dispatch'),
      'nat-postrouting': jumpTo('masquerading'),
      'filter-input': jumpNew('new-input'),
      'filter-forward': jumpNew('new-forward'),
      'filter-output': jumpNew('new-forward'),
    };
    const unusedPort: Rule = {
      text: `${v.ip} daddr @cluster-ips reject`,
      expressions: [...v.address('daddr', 0), lookup('cluster-ips', 0), this.#v.reject],
    };
    return new Map<string, Rule[]>([
      ['source-ranges', this.#sourceRanges()],
      ['dispatch', this.#dispatch()],
      [EXTERNAL_LOCAL, this.#policyLocal(false)],
      [NODEPORT_LOCAL, this.#policyLocal(true)],
      ['masquerading', this.#masquerading()],
      ['endpoints-check', this.#endpointsCheck()],
      ['nodeport-endpoints-check', this.#nodeportEndpointsCheck()],
      ['service-cidrs-check', this.#serviceCidrsCheck()],
      ['new-input', [jumpTo('nodeport-endpoints-check'), jumpTo('endpoints-check')]],
      ['new-forward', [jumpTo('endpoints-check'), unusedPort, jumpTo('service-cidrs-check')]],
      ...[...BASE_CHAINS.keys()].map((name): [string, Rule[]] => [name, [base[name]!]]),
    ]);
  }
}

/** Chains that every table has, with their rules. */
export function fixedChains(family: Family, node: NodeSettings): Map<string, Rule[]> {
  return new RuleBook(family, node).fixedChains();
}
