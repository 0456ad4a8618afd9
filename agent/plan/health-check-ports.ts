// Health check node ports: which port, and what its server reports (S-52, S-53).
import type { Family } from '../../native/ip.ts';
import type { EndpointSlice, Service } from '../state/objects.ts';
import { countLocalReady } from './endpoints.ts';

export interface HealthCheckPort {
  /** `namespace/name`. */
  readonly service: string;
  readonly family: Family;
  readonly port: number;
  /** Different IPs of local Ready endpoints. */
  readonly localEndpoints: number;
}

/** null when the Service has none in the family. `slices` are those of the Service and family. */
export function healthCheckPort(options: {
  service: Service | null;
  family: Family;
  slices: readonly EndpointSlice[];
}): HealthCheckPort | null {
  const { service, family, slices } = options;
  if (service === null || service.healthCheckNodePort === 0) return null;
  if (service.clusterIP[family] === null || service.ports.length === 0) return null;
  return { service: service.key, family, port: service.healthCheckNodePort, localEndpoints: countLocalReady(slices) };
}
