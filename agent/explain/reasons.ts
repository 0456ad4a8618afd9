// Why an endpoint gets no traffic, in words.
import type { LeftOut } from '../plan/topology.ts';
import type { SliceEndpoint } from '../state/objects.ts';

/** `set` is the one that the endpoint is not in. */
export function leftOutWords(reason: LeftOut, endpoint: SliceEndpoint, set: 'cluster' | 'local'): string {
  if (reason === 'notReady') return 'not ready';
  if (set === 'local' && !endpoint.local) return 'on another node';
  switch (reason) {
    case 'terminating':
      return endpoint.serving ? 'terminating, others are ready' : 'terminating, no longer serving';
    case 'otherNode':
      return `hinted for node ${list(endpoint.nodeHints)}`;
    case 'otherZone':
      return `hinted for zone ${list(endpoint.zoneHints)}`;
    case 'notLocal':
      return 'on another node';
    case 'unused':
      return 'not used';
  }
}

const list = (names: readonly string[] | null): string => (names ?? []).join(', ');
