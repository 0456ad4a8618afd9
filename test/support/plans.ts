// Plans of Services for tests of backends: written by hand in short form, or random ones that fit together.
import type {
  Endpoint,
  Frontend,
  NodeSettings,
  PlanChange,
  ServicePlan,
  ServicePortPlan,
} from '../../backends/service-plan.ts';
import type { Family } from '../../native/ip.ts';
import { mulberry32 } from './cluster.ts';

export function endpoint(ip: string, port = 8080, local = false): Endpoint {
  const key = ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;
  const facts = { ready: true, serving: true, terminating: false, zoneHints: null, nodeHints: null };
  return { ip, port, key, local, ...facts };
}

/** Remote endpoints 10.128.x.y, or fd00:10:128::n, from number `first` on. */
export function endpoints(count: number, first = 1, family: Family = 'IPv4'): Endpoint[] {
  return Array.from({ length: count }, (_, i) => {
    const n = first + i;
    return endpoint(
      family === 'IPv4' ? `10.${128 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}` : `fd00:10:128::${n.toString(16)}`,
    );
  });
}

export function portPlan(fields: Partial<ServicePortPlan> = {}): ServicePortPlan {
  const { cluster = [], local = [] } = fields;
  return {
    portName: '',
    protocol: 'TCP',
    frontends: [{ kind: 'clusterIP', ip: '10.96.0.1', port: 80 }],
    cluster,
    local,
    hasEndpoints: cluster.length + local.length > 0,
    endpointCount: new Set([...cluster, ...local]).size,
    onNode: [...new Set([...cluster, ...local])].filter((e) => e.local),
    internalLocal: false,
    externalLocal: false,
    affinitySeconds: null,
    sourceRanges: [],
    sourcesIncludeNode: false,
    ...fields,
  };
}

export function servicePlan(name: string, ports: readonly ServicePortPlan[], family: Family = 'IPv4'): ServicePlan {
  return { namespace: 'shop', name, family, ports, healthCheckNodePort: 0 };
}

export function changeTo(plan: ServicePlan): PlanChange {
  return { service: `${plan.namespace}/${plan.name}`, family: plan.family, plan };
}

export const SETTINGS: NodeSettings = {
  masqueradeAll: false,
  masqueradeBit: 14,
  dropInvalid: true,
  families: {
    IPv4: {
      detectLocal: { by: 'cidr', cidr: '10.128.0.0/14' },
      nodePortAddresses: ['192.0.2.11'],
      localhostNodePorts: false,
      hostAddresses: [],
      serviceCidrs: ['10.96.0.0/16'],
    },
    IPv6: {
      detectLocal: { by: 'cidr', cidr: 'fd00:10:128::/48' },
      nodePortAddresses: ['2001:db8:aa::11'],
      localhostNodePorts: false,
      hostAddresses: [],
      serviceCidrs: ['fd00:10:96::/112'],
    },
  },
};

/** Numbers from 0 to below; the same for the same seed. */
export type Random = (below: number) => number;
export function seededRandom(seed: number): Random {
  const next = mulberry32(seed);
  return (below) => Math.floor(next() * below);
}

/** The seed of a test run: SEED of the environment or a new one. */
export const seedOfRun = (): number => Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));

export interface PlanWorldOptions {
  readonly random: Random;
  readonly services?: number;
  readonly maxEndpoints?: number;
  readonly families?: readonly Family[];
}

/** Services that come, change and go, as the planner would report them: no frontend has two owners at a time. */
export class PlanWorld {
  readonly #random: Random;
  readonly #services: number;
  readonly #maxEndpoints: number;
  readonly #families: readonly Family[];
  /** By family and service. */
  readonly plans = new Map<string, ServicePlan>();

  constructor({ random, services = 8, maxEndpoints = 9, families = ['IPv4', 'IPv6'] }: PlanWorldOptions) {
    this.#random = random;
    this.#services = services;
    this.#maxEndpoints = maxEndpoints;
    this.#families = families;
  }

  /** Changes up to `most` Services. */
  step(most = 3): PlanChange[] {
    const changes = new Map<string, PlanChange>();
    const names: [string, Family, number][] = [];
    for (let i = this.#random(most); i >= 0; i--) {
      const number = this.#random(this.#services);
      const family = this.#families[this.#random(this.#families.length)]!;
      names.push([`svc-${number}`, family, number]);
    }
    const old = new Map(names.map(([name, family]) => [`${family} ${name}`, this.plans.get(`${family} ${name}`)]));
    for (const key of old.keys()) this.plans.delete(key);
    for (const [name, family, number] of names) {
      const key = `${family} ${name}`;
      const plan = this.#random(5) === 0 ? null : this.#plan(name, family, number, old.get(key));
      if (plan) this.plans.set(key, plan);
      else this.plans.delete(key);
      changes.set(key, { service: `shop/${name}`, family, plan });
    }
    return [...changes.values()];
  }

  #pick<T>(list: readonly T[]): T {
    return list[this.#random(list.length)]!;
  }

  #endpoints(family: Family): Endpoint[] {
    // A small pool of pods: several Services share some, and the same pod comes back.
    const wanted = new Set<number>();
    for (let i = this.#random(this.#maxEndpoints + 1); i > 0; i--) wanted.add(1 + this.#random(this.#maxEndpoints * 2));
    return [...wanted]
      .map((n) => endpoint(family === 'IPv4' ? `10.128.4.${n}` : `fd00:10:128:4::${n.toString(16)}`, 8080, n % 3 === 0))
      .sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  #plan(name: string, family: Family, number: number, old: ServicePlan | undefined): ServicePlan {
    const taken = new Set(
      [...this.plans.values()]
        .filter((plan) => plan.family === family)
        .flatMap((plan) => plan.ports.flatMap((port) => port.frontends.map((f) => addressOf(port, f)))),
    );
    const count = 1 + this.#random(2);
    const ports: ServicePortPlan[] = [];
    for (let i = 0; i < count; i++) {
      const before = old?.ports[i];
      // Most changes are of endpoints alone.
      const port =
        before && this.#random(3) > 0 && before.frontends.every((f) => !taken.has(addressOf(before, f)))
          ? { ...before, ...this.#sets(family, before) }
          : this.#port(family, number, i, taken);
      for (const frontend of port.frontends) taken.add(addressOf(port, frontend));
      ports.push(port);
    }
    return { namespace: 'shop', name, family, ports, healthCheckNodePort: 0 };
  }

  #sets(
    family: Family,
    { internalLocal, externalLocal }: Pick<ServicePortPlan, 'internalLocal' | 'externalLocal'>,
  ): Pick<ServicePortPlan, 'cluster' | 'local' | 'hasEndpoints'> {
    const all = this.#endpoints(family);
    const local = internalLocal || externalLocal ? all.filter((e) => e.local) : [];
    return { cluster: all, local, hasEndpoints: all.length > 0 };
  }

  #port(family: Family, number: number, index: number, taken: ReadonlySet<string>): ServicePortPlan {
    const v4 = family === 'IPv4';
    const protocol = this.#pick(['TCP', 'UDP', 'SCTP'] as const);
    const port = 80 + index;
    const frontends: Frontend[] = [
      { kind: 'clusterIP', ip: v4 ? `10.96.0.${number}` : `fd00:10:96::${(number + 1).toString(16)}`, port },
    ];
    const more: readonly Frontend[] = [
      { kind: 'externalIP', ip: v4 ? '198.18.9.5' : '2001:db8:9::5', port },
      { kind: 'loadBalancer', ip: v4 ? '198.18.0.10' : '2001:db8:18::10', port },
      { kind: 'loadBalancer', ip: v4 ? '198.18.0.11' : '2001:db8:18::11', port },
      { kind: 'nodePort', ip: null, port: 30000 + this.#random(4) },
    ];
    for (const frontend of more) {
      if (this.#random(3) === 0 && !taken.has(addressOf({ protocol }, frontend))) frontends.push(frontend);
    }
    const policies = { internalLocal: this.#random(4) === 0, externalLocal: this.#random(3) === 0 };
    const ranges = v4
      ? ['203.0.113.0/25', '203.0.113.0/24', '203.0.113.128/25', '192.0.2.0/24', '203.0.113.50/32']
      : ['2001:db8:113::/64', '2001:db8:113::/48', '2001:db8:aa::/64', '2001:db8:113::50/128'];
    return portPlan({
      portName: index === 0 ? '' : 'metrics',
      protocol,
      frontends,
      ...policies,
      ...this.#sets(family, policies),
      affinitySeconds: this.#pick([null, null, 300, 10_800]),
      sourceRanges: this.#random(3) === 0 ? ranges.filter(() => this.#random(2) === 0) : [],
      sourcesIncludeNode: this.#random(4) === 0,
    });
  }
}

const addressOf = ({ protocol }: Pick<ServicePortPlan, 'protocol'>, { ip, port }: Frontend): string =>
  `${protocol} ${ip} ${port}`;
