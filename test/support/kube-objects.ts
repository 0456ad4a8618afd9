// Small valid API objects as JSON, to be changed by tests.

// biome-ignore lint/suspicious/noExplicitAny: raw JSON, tests break it at will
export type Raw = any;

/** A Service `shop/NAME` with one TCP port 80; `spec` fields are laid over. */
export function rawService(name: string, spec: Raw = {}, metadata: Raw = {}): Raw {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { namespace: 'shop', name, ...metadata },
    spec: {
      type: 'ClusterIP',
      clusterIP: '10.96.0.1',
      clusterIPs: ['10.96.0.1'],
      ipFamilies: ['IPv4'],
      ports: [{ name: 'http', protocol: 'TCP', port: 80 }],
      ...spec,
    },
  };
}

/** A slice of Service `shop/SERVICE` with one TCP port 8080 and the given endpoints (addresses, or endpoint objects). */
export function rawSlice(name: string, service: string, endpoints: readonly Raw[], rest: Raw = {}): Raw {
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { namespace: 'shop', name, labels: { 'kubernetes.io/service-name': service } },
    addressType: 'IPv4',
    ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
    endpoints: endpoints.map((endpoint) => (typeof endpoint === 'string' ? { addresses: [endpoint] } : endpoint)),
    ...rest,
  };
}

export function rawNode(name: string, labels: Raw = {}): Raw {
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, labels },
    spec: {},
    status: { addresses: [{ type: 'InternalIP', address: '192.0.2.11' }] },
  };
}
