// Which objects the agent looks at (E-1, E-6, P-10, S-77): the API paths and selectors, and the same choice made locally.
import type { Kind } from './source.ts';

/** What to list and watch for one kind. */
export interface Resource {
  readonly kind: Kind;
  readonly path: string;
  readonly labelSelector: string;
  readonly fieldSelector: string;
  /** The agent starts without it when the API refuses or does not know it (P-91). */
  readonly optional: boolean;
}

const PROXY_NAME_LABEL = 'service.kubernetes.io/service-proxy-name';
const HEADLESS_LABEL = 'service.kubernetes.io/headless';

/** API group and version of each kind. */
export const API_VERSIONS: Readonly<Record<Kind, string>> = {
  Service: 'v1',
  EndpointSlice: 'discovery.k8s.io/v1',
  Node: 'v1',
  ServiceCIDR: 'networking.k8s.io/v1',
};

export function resources(nodeName: string): readonly Resource[] {
  const all = { labelSelector: '', fieldSelector: '', optional: false };
  return [
    { ...all, kind: 'Node', path: '/api/v1/nodes', fieldSelector: `metadata.name=${nodeName}` },
    { ...all, kind: 'ServiceCIDR', path: '/apis/networking.k8s.io/v1/servicecidrs', optional: true },
    {
      ...all,
      kind: 'Service',
      path: '/api/v1/services',
      labelSelector: `!${PROXY_NAME_LABEL}`,
      fieldSelector: 'spec.clusterIP!=None',
    },
    {
      ...all,
      kind: 'EndpointSlice',
      path: '/apis/discovery.k8s.io/v1/endpointslices',
      labelSelector: `!${HEADLESS_LABEL}`,
    },
  ];
}

/** The parts of an object's metadata that sources use. */
export interface Identity {
  /** '' for kinds without namespace. */
  readonly namespace: string;
  readonly name: string;
  readonly resourceVersion: string;
  readonly labels: Readonly<Record<string, unknown>>;
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Name and labels of an object, or null when it has no usable name. */
export function identify(object: unknown): Identity | null {
  if (!isRecord(object) || !isRecord(object.metadata)) return null;
  const { name, namespace, resourceVersion, labels } = object.metadata;
  if (typeof name !== 'string' || name === '') return null;
  return {
    name,
    namespace: typeof namespace === 'string' ? namespace : '',
    resourceVersion: typeof resourceVersion === 'string' ? resourceVersion : '',
    labels: isRecord(labels) ? labels : {},
  };
}

/** True when the object is one the selectors of `resources` let through. */
export function isSelected(kind: Kind, identity: Identity, object: unknown, nodeName: string): boolean {
  switch (kind) {
    case 'Service': {
      const spec = isRecord(object) && isRecord(object.spec) ? object.spec : {};
      return !(PROXY_NAME_LABEL in identity.labels) && spec.clusterIP !== 'None';
    }
    case 'EndpointSlice':
      return !(HEADLESS_LABEL in identity.labels);
    case 'Node':
      return identity.name === nodeName;
    case 'ServiceCIDR':
      return true;
  }
}

const KEPT_ANNOTATIONS = ['endpoints.kubernetes.io/last-change-trigger-time'];

/** Drops what is large and never read: managedFields and all annotations but the ones the agent uses. */
export function trimMetadata(object: unknown): void {
  if (!isRecord(object) || !isRecord(object.metadata)) return;
  const { metadata } = object;
  metadata.managedFields = undefined;
  const { annotations } = metadata;
  if (!isRecord(annotations)) return;
  const kept = KEPT_ANNOTATIONS.filter((name) => name in annotations);
  metadata.annotations =
    kept.length > 0 ? Object.fromEntries(kept.map((name) => [name, annotations[name]])) : undefined;
}
