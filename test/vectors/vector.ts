// The form of the vectors, and what running several kinds of them has in common.
import assert from 'node:assert/strict';
import { nodeName as nodeNameFrom } from '../../agent/config/node-name.ts';
import { endpointsOf, slicePorts } from '../../agent/plan/endpoints.ts';
import { State } from '../../agent/state/state.ts';
import type { Family } from '../../native/ip.ts';

/** One test case; `input` and `expect` have a form of their own for each kind. */
export interface Vector {
  readonly id: string;
  readonly kind: string;
  readonly title: string;
  readonly rules: readonly string[];
  // biome-ignore lint/suspicious/noExplicitAny: test data whose form depends on the kind
  readonly input: any;
  // biome-ignore lint/suspicious/noExplicitAny: test data whose form depends on the kind
  readonly expect: any;
}

export interface VectorFile {
  readonly schemaVersion: number;
  readonly category: string;
  readonly vectors: readonly Vector[];
}

/** Expectations left alone because their backend does not exist yet, counted by backend. */
export type NotTested = Record<string, number>;

/** What a module in `kinds/` exports: throws when the vector fails. */
export interface KindModule {
  run(vector: Vector): void | Promise<void> | Promise<NotTested>;
}

/** A state that has been given all objects of a vector's input. */
export function stateOf(input: {
  nodeName?: string;
  node?: unknown;
  services?: readonly unknown[];
  endpointSlices?: readonly unknown[];
  serviceCIDRs?: readonly unknown[];
  allowExternalIPs?: boolean;
}): State {
  const nodeName = input.nodeName ? nodeNameFrom(input.nodeName, '') : '';
  const state = new State({ nodeName, startedMs: 0, allowExternalIPs: input.allowExternalIPs ?? true });
  if (input.node) state.apply('Node', input.node);
  for (const service of input.services ?? []) state.apply('Service', service);
  for (const slice of input.endpointSlices ?? []) state.apply('EndpointSlice', slice);
  for (const cidr of input.serviceCIDRs ?? []) state.apply('ServiceCIDR', cidr);
  return state;
}

/** All endpoints a state holds of the given Services, in the form of the vectors. */
export function endpointMap(state: State, family: Family, services: Iterable<string>): unknown[] {
  return [...new Set(services)].flatMap((service) => {
    const slices = state.slices(service, family);
    return slicePorts(slices)
      .map(({ portName, protocol }) => ({
        service,
        portName,
        protocol,
        endpoints: endpointsOf({ slices, portName, protocol }).map((endpoint) => ({
          endpoint: endpoint.key,
          local: endpoint.local,
          ready: endpoint.ready,
          serving: endpoint.serving,
          terminating: endpoint.terminating,
          zoneHints: endpoint.zoneHints ?? [],
          nodeHints: endpoint.nodeHints ?? [],
        })),
      }))
      .filter((port) => port.endpoints.length > 0);
  });
}

/** `namespace/name` of the Services that slices of an input may belong to, selected or not. */
// biome-ignore lint/suspicious/noExplicitAny: objects of the vectors
export function servicesOf(slices: readonly any[]): string[] {
  return slices.map((slice) => `${slice.metadata.namespace}/${slice.metadata.labels?.['kubernetes.io/service-name']}`);
}

/** Compares lists in any order; the same element twice is a difference. */
export function sameSet(actual: readonly unknown[], expected: readonly unknown[], what: string): void {
  const sorted = (list: readonly unknown[]) => list.map((item) => canonical(item)).sort();
  assert.deepEqual(sorted(actual), sorted(expected), what);
}

/** JSON with object keys in order. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, inner) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}
