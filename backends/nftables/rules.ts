// The rules of the table: for each chain the nf_tables expressions and the text nft prints for them, side by side.
// Registers are the 32-bit ones; a rule may only read registers it has written itself. `a` = registers of an address.
import { type Family, ipBytes, maskBytes, parseCidr } from '../../native/ip.ts';
import {
  CMP,
  CT,
  DYNSET,
  FIB_FLAG,
  FIB_RESULT_ADDRTYPE,
  META,
  NAT_RANGE,
  NFPROTO,
  PAYLOAD,
  REG_VERDICT,
  REJECT_ICMP_UNREACH,
  RTN_LOCAL,
  reg,
  u32Host,
  VERDICT,
} from '../../native/nftables/constants.ts';
import type { Expression } from '../../native/nftables/expression.ts';
import type { DetectLocal, FamilySettings, NodeSettings } from '../service-plan.ts';
import { type Action, EXTERNAL_LOCAL, NODEPORT_LOCAL } from './actions.ts';
import { addressLength } from './fields.ts';
import { BASE_CHAINS, type SetName } from './schema.ts';

export interface Rule {
  readonly text: string;
  readonly expressions: readonly Expression[];
}

type Piece = readonly Expression[];

const immediateZero = '\0\0\0\0';
const ALL_ONES = '\xff\xff\xff\xff';
const WORD_BIT = 0x80000000;
/** Clears the slot (13 bits) of an affinity word. */
const SID_MASK = 0xffffe000;

/** Expressions and texts of one family. */
class Vocabulary {
  readonly family: Family;
  readonly a: number;
  readonly ip: 'ip' | 'ip6';
  readonly zeroMask: string;

  constructor(family: Family) {
    this.family = family;
    this.a = addressLength(family) / 4;
    this.ip = family === 'IPv4' ? 'ip' : 'ip6';
    this.zeroMask = family === 'IPv4' ? '0.0.0.0' : '::';
  }

  address(which: 'saddr' | 'daddr', register: number): Piece {
    const offsets = this.family === 'IPv4' ? { saddr: 12, daddr: 16 } : { saddr: 8, daddr: 24 };
    const len = addressLength(this.family);
    return [{ name: 'payload', base: PAYLOAD.network, offset: offsets[which], len, dreg: reg(register) }];
  }

  /** Frontend key: destination address, protocol, destination port. `anyAddress` zeroes the address (node ports). */
  key(register: number, anyAddress = false): Piece {
    const len = addressLength(this.family);
    const zero = '\0'.repeat(len);
    const r = reg(register);
    return [
      ...this.address('daddr', register),
      ...(anyAddress ? [{ name: 'bitwise', sreg: r, dreg: r, len, mask: zero, xor: zero } as const] : []),
      { name: 'meta', key: META.l4proto, dreg: reg(register + this.a) },
      { name: 'payload', base: PAYLOAD.transport, offset: 2, len: 2, dreg: reg(register + this.a + 1) },
    ];
  }

  keyText(anyAddress = false): string {
    return `${this.ip} daddr${anyAddress ? ` & ${this.zeroMask}` : ''} . meta l4proto . th dport`;
  }

  /** Registers after a key that starts at 0. */
  get afterKey(): number {
    return this.a + 2;
  }
}

const lookup = (set: SetName, register: number, dreg: number | null = null, inverted = false): Expression => ({
  name: 'lookup',
  set,
  sreg: reg(register),
  dreg,
  inverted,
});
const goto = (set: SetName, register: number): Expression => lookup(set, register, REG_VERDICT);
const verdict = (code: number, chain: string | null = null): Expression => ({ name: 'verdict', code, chain });
const drop = verdict(VERDICT.drop);
const jump = (chain: string): Expression => verdict(VERDICT.jump, chain);
const cmp = (op: number, register: number, data: string): Expression => ({
  name: 'cmp',
  op,
  sreg: reg(register),
  data,
});
const mask = (register: number, bits: number): Expression => ({
  name: 'bitwise',
  sreg: reg(register),
  dreg: reg(register),
  len: 4,
  mask: u32Host(bits),
  xor: immediateZero,
});
const loadPriority = (register: number): Expression => ({ name: 'meta', key: META.priority, dreg: reg(register) });
const setPriority: Expression = { name: 'metaSet', key: META.priority, sreg: reg(0) };
const ctStateNew: Piece = [{ name: 'ct', key: CT.state, dreg: reg(0) }, mask(0, 8), cmp(CMP.ne, 0, immediateZero)];
/** A word that a lookup left in R0 → skb priority → the chain it stands for. */
const followWord = (actions: SetName): Piece => [setPriority, loadPriority(0), goto(actions, 0)];

function isLocal(which: 'saddr' | 'daddr'): Piece {
  return [
    { name: 'fib', result: FIB_RESULT_ADDRTYPE, flags: FIB_FLAG[which], dreg: reg(0) },
    cmp(CMP.eq, 0, u32Host(RTN_LOCAL)),
  ];
}

const hex32 = (value: number): string => `0x${(value >>> 0).toString(16).padStart(8, '0')}`;

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

  get #markBit(): number {
    return (1 << this.#node.masqueradeBit) >>> 0;
  }

  get #mark(): Piece {
    const bit = this.#markBit;
    return [
      { name: 'meta', key: META.mark, dreg: reg(0) },
      { name: 'bitwise', sreg: reg(0), dreg: reg(0), len: 4, mask: u32Host(~bit), xor: u32Host(bit) },
      { name: 'metaSet', key: META.mark, sreg: reg(0) },
    ];
  }

  get #markText(): string {
    return `meta mark set meta mark | ${hex32(this.#markBit)}`;
  }

  #detect(detector: DetectLocal, negate: boolean): Rule {
    const op = negate ? CMP.ne : CMP.eq;
    const not = negate ? '!= ' : '';
    if (detector.by === 'cidr') {
      const cidr = parseCidr(detector.cidr)!;
      const len = addressLength(this.#v.family);
      const whole = cidr.prefix === len * 8;
      const masking: Piece = whole
        ? []
        : [
            {
              name: 'bitwise',
              sreg: reg(0),
              dreg: reg(0),
              len,
              mask: maskBytes(cidr.family, cidr.prefix),
              xor: '\0'.repeat(len),
            },
          ];
      return {
        text: `${this.#v.ip} saddr ${not}${whole ? cidr.base : cidr.text}`,
        expressions: [...this.#v.address('saddr', 0), ...masking, cmp(op, 0, ipBytes(cidr.base)!)],
      };
    }
    const exact = detector.by === 'interface';
    const name = exact ? detector.name : detector.prefix;
    return {
      text: `iifname ${not}"${name}${exact ? '' : '*'}"`,
      expressions: [
        { name: 'meta', key: META.iifname, dreg: reg(0) },
        cmp(op, 0, exact ? name.padEnd(16, '\0') : name),
      ],
    };
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
    const loopback: Rule =
      v.family === 'IPv4'
        ? {
            text: 'ip daddr != 127.0.0.0/8',
            expressions: [
              ...v.address('daddr', 0),
              { name: 'bitwise', sreg: reg(0), dreg: reg(0), len: 4, mask: '\xff\0\0\0', xor: immediateZero },
              cmp(CMP.ne, 0, '\x7f\0\0\0'),
            ],
          }
        : { text: 'ip6 daddr != ::1', expressions: [...v.address('daddr', 0), cmp(CMP.ne, 0, ipBytes('::1')!)] };
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
        text: `${clusterIp.text} ${this.#markText}`,
        expressions: [...clusterIp.expressions, ...this.#mark],
      });
    } else if (detectLocal) {
      const remote = this.#detect(detectLocal, true);
      rules.push({
        text: `${clusterIp.text} ${remote.text} ${this.#markText}`,
        expressions: [...clusterIp.expressions, ...remote.expressions, ...this.#mark],
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
      const pod = this.#detect(detectLocal, false);
      rules.push({
        text: `${pod.text} ${shortCircuit.text}`,
        expressions: [...pod.expressions, ...shortCircuit.expressions],
      });
    }
    rules.push({
      text: `fib saddr type local ${this.#markText} ${shortCircuit.text}`,
      expressions: [...isLocal('saddr'), ...this.#mark, ...shortCircuit.expressions],
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
    const bit = this.#markBit;
    // nft takes the mask of the highest bit for a prefix.
    const isMarked = bit === WORD_BIT ? 'meta mark != 0x00000000/1' : `meta mark & ${hex32(bit)} != 0x00000000`;
    const masquerade: Expression = { name: 'masquerade', flags: NAT_RANGE.protoRandomFully };
    return [
      {
        text: 'meta priority & 8000:0 != none meta priority set none',
        expressions: [
          loadPriority(0),
          mask(0, WORD_BIT),
          cmp(CMP.ne, 0, immediateZero),
          { name: 'immediate', dreg: reg(0), data: immediateZero },
          setPriority,
        ],
      },
      {
        text: `${isMarked} meta mark set meta mark ^ ${hex32(bit)} masquerade fully-random`,
        expressions: [
          { name: 'meta', key: META.mark, dreg: reg(0) },
          mask(0, bit),
          cmp(CMP.ne, 0, immediateZero),
          { name: 'meta', key: META.mark, dreg: reg(0) },
          { name: 'bitwise', sreg: reg(0), dreg: reg(0), len: 4, mask: ALL_ONES, xor: u32Host(bit) },
          { name: 'metaSet', key: META.mark, sreg: reg(0) },
          masquerade,
        ],
      },
      {
        text: `ct status dnat ${v.ip} saddr . ${v.keyText()} @hairpin masquerade fully-random`,
        expressions: [
          { name: 'ct', key: CT.status, dreg: reg(0) },
          mask(0, 0x20),
          cmp(CMP.ne, 0, immediateZero),
          ...v.address('saddr', 0),
          ...v.key(v.a),
          lookup('hairpin', 0),
          masquerade,
        ],
      },
    ];
  }

  get #reject(): Expression {
    return { name: 'reject', type: REJECT_ICMP_UNREACH, code: this.#v.family === 'IPv4' ? 3 : 4 };
  }

  #endpointsCheck(): Rule[] {
    const v = this.#v;
    const check = (set: SetName, text: string, end: Expression): Rule => ({
      text: `${v.keyText()} @${set} ${text}`,
      expressions: [...v.key(0), lookup(set, 0), end],
    });
    return [check('no-endpoints-drop', 'drop', drop), check('no-endpoints-reject', 'reject', this.#reject)];
  }

  #nodeportEndpointsCheck(): Rule[] {
    const v = this.#v;
    const accepted = this.#nodePortAddress;
    const check = (set: SetName, text: string, end: Expression): Rule => ({
      text: `${v.keyText(true)} @${set} ${accepted.text} ${text}`,
      expressions: [...v.key(0, true), lookup(set, 0), ...accepted.expressions, end],
    });
    return [check('no-endpoints-drop', 'drop', drop), check('no-endpoints-reject', 'reject', this.#reject)];
  }

  #serviceCidrsCheck(): Rule[] {
    const v = this.#v;
    return this.#settings.serviceCidrs.map((text) => {
      const cidr = parseCidr(text)!;
      const len = addressLength(v.family);
      const whole = cidr.prefix === len * 8;
      const masking: Piece = whole
        ? []
        : [
            {
              name: 'bitwise',
              sreg: reg(0),
              dreg: reg(0),
              len,
              mask: maskBytes(v.family, cidr.prefix),
              xor: '\0'.repeat(len),
            },
          ];
      return {
        text: `${v.ip} daddr ${whole ? cidr.base : cidr.text} drop`,
        expressions: [...v.address('daddr', 0), ...masking, cmp(CMP.eq, 0, ipBytes(cidr.base)!), drop],
      };
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
      expressions: [...v.address('daddr', 0), lookup('cluster-ips', 0), this.#reject],
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

  /** The rules of a chain that chooses an endpoint. */
  actionChain(action: Action): Rule[] {
    const rules =
      action.affinitySeconds === null ? this.#choose(action) : this.#remember(action, action.affinitySeconds);
    const marks = action.prefix.endsWith('mq');
    return marks ? [{ text: this.#markText, expressions: this.#mark }, ...rules] : rules;
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
      text: `update @affinity { ${clientText} timeout ${timeoutText(seconds)} : meta priority } ${toEndpointText}`,
      expressions: [
        ...toEndpoint,
        loadPriority(v.a + 1),
        mask(v.a + 1, SID_MASK),
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
        mask(0, SID_MASK),
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

/** Seconds as nft prints a time: `3h`, `1m40s`. */
function timeoutText(seconds: number): string {
  const units: [string, number][] = [
    ['d', 86_400],
    ['h', 3_600],
    ['m', 60],
    ['s', 1],
  ];
  let rest = seconds;
  let out = '';
  for (const [unit, size] of units) {
    if (rest >= size) out += `${Math.floor(rest / size)}${unit}`;
    rest %= size;
  }
  return out;
}

/** Chains that every table has, with their rules. */
export function fixedChains(family: Family, node: NodeSettings): Map<string, Rule[]> {
  return new RuleBook(family, node).fixedChains();
}

/** Rules of the chain of an action. */
export function actionChain(family: Family, node: NodeSettings, action: Action): Rule[] {
  return new RuleBook(family, node).actionChain(action);
}
