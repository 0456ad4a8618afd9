// The chains that choose an endpoint. One chain serves all Services with the same action: kind and number of endpoints.
import type { Family } from '../../native/ip.ts';
import { DYNSET, NFPROTO, reg } from '../../native/nftables/constants.ts';
import type { Expression } from '../../native/nftables/expression.ts';
import { lookup, mark, markText, maskBits, type Piece, type Rule, Vocabulary } from '../nft-table/rule-parts.ts';
import { timeText } from '../nft-table/text.ts';
import type { NodeSettings } from '../service-plan.ts';
import type { Action } from './actions.ts';
import type { SetName } from './schema.ts';
import { loadPriority, SID_MASK, setPriority } from './word-parts.ts';

class ActionRules {
  readonly #v: Vocabulary;
  readonly #node: NodeSettings;

  constructor(family: Family, node: NodeSettings) {
    this.#v = new Vocabulary(family);
    this.#node = node;
  }

  /** The rules of a chain that chooses an endpoint. */
  rules(action: Action): Rule[] {
    const rules =
      action.affinitySeconds === null ? this.#choose(action) : this.#remember(action, action.affinitySeconds);
    const marks = action.prefix.endsWith('mq');
    return marks ? [{ text: markText(this.#node), expressions: mark(this.#node) }, ...rules] : rules;
  }

  #dnat(): Expression {
    return { name: 'dnat', family: NFPROTO[this.#v.family], regAddr: reg(0), regProto: reg(this.#v.a) };
  }

  /** One random endpoint; the second rule serves a packet that met the moment in which a commit replaced its index. */
  #choose({ prefix, count }: Action): Rule[] {
    const v = this.#v;
    const anyAddress = prefix.startsWith('np-');
    const map: SetName = prefix.endsWith('ll') ? 'local-endpoints' : 'endpoints';
    const pick = (modulus: number): Rule => ({
      text: `dnat ${v.ip} to ${v.keyText(anyAddress)} . numgen random mod ${modulus} map @${map}`,
      expressions: [
        ...v.key(0, anyAddress),
        { name: 'numgen', modulus, dreg: reg(v.afterKey) },
        lookup(map, 0, reg(0)),
        this.#dnat(),
      ],
    });
    return [pick(count), pick(1)];
  }

  /** Session affinity: the endpoint this client had last, else a random one that is remembered (S-56…S-58). */
  #remember({ prefix, count }: Action, seconds: number): Rule[] {
    const v = this.#v;
    const anyAddress = prefix.startsWith('np-');
    const local = prefix.endsWith('ll') ? 'local-' : '';
    const slots = `${local}affinity-slots` as SetName;
    const endpoints = `${local}affinity-endpoints` as SetName;
    const k = v.afterKey;
    const clientText = `meta priority & ffff:e000 . ${v.ip} saddr`;
    const toEndpoint: Piece = [...v.key(0, anyAddress), loadPriority(k), lookup(endpoints, 0, reg(0))];
    const toEndpointText = `dnat ${v.ip} to ${v.keyText(anyAddress)} . meta priority map @${endpoints}`;

    const identify: Rule = {
      text: `meta priority set ${v.keyText(anyAddress)} map @affinity-services`,
      expressions: [...v.key(0, anyAddress), lookup('affinity-services', 0, reg(0)), setPriority],
    };
    const recall: Rule = {
      text: `meta priority set meta priority . ${v.ip} saddr map @affinity`,
      expressions: [loadPriority(0), ...v.address('saddr', 1), lookup('affinity', 0, reg(0)), setPriority],
    };
    // The lookup comes first: only an endpoint that is in the set that applies here is remembered (S-58).
    const serveAndRefresh: Rule = {
      text: `update @affinity { ${clientText} timeout ${timeText(seconds)} : meta priority } ${toEndpointText}`,
      expressions: [
        ...toEndpoint,
        loadPriority(v.a + 1),
        maskBits(v.a + 1, SID_MASK),
        ...v.address('saddr', k),
        loadPriority(2 * v.a + 2),
        {
          name: 'dynset',
          set: 'affinity',
          op: DYNSET.update,
          sregKey: reg(v.a + 1),
          sregData: reg(2 * v.a + 2),
          timeoutMs: seconds * 1000,
        },
        this.#dnat(),
      ],
    };
    const forget: Rule = {
      text: `delete @affinity { ${clientText} : meta priority }`,
      expressions: [
        loadPriority(0),
        maskBits(0, SID_MASK),
        ...v.address('saddr', 1),
        loadPriority(v.a + 1),
        { name: 'dynset', set: 'affinity', op: DYNSET.delete, sregKey: reg(0), sregData: reg(v.a + 1), timeoutMs: 0 },
      ],
    };
    const serve: Rule = { text: toEndpointText, expressions: [...toEndpoint, this.#dnat()] };
    const choose = (modulus: number): Rule => ({
      text: `meta priority set ${v.keyText(anyAddress)} . numgen random mod ${modulus} map @${slots}`,
      expressions: [
        ...v.key(0, anyAddress),
        { name: 'numgen', modulus, dreg: reg(k) },
        lookup(slots, 0, reg(0)),
        setPriority,
      ],
    });
    // `serve` follows each `serveAndRefresh`: with a full memory the connection is served without being remembered.
    return [
      identify,
      recall,
      serveAndRefresh,
      forget,
      choose(count),
      serveAndRefresh,
      serve,
      choose(1),
      serveAndRefresh,
      serve,
    ];
  }
}

/** Rules of the chain of an action. */
export function actionChain(family: Family, node: NodeSettings, action: Action): Rule[] {
  return new ActionRules(family, node).rules(action);
}
