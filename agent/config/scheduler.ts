// Who chooses among endpoints.
import { DEFAULT_SCHEDULER } from '../../backends/ipvs/settings.ts';
import type { Config } from './types.ts';

/** The scheduler of ipvs mode (V-11); null in the other modes, where chance chooses (S-4). */
export function schedulerOf({ mode, ipvs }: Config): string | null {
  return mode === 'ipvs' ? ipvs.scheduler || DEFAULT_SCHEDULER : null;
}
