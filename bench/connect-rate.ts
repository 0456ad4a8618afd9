// TCP connections a second through a Service beside connecting straight to the pod, in turns, from the same client.
import type { Host } from '../test/support/host.ts';
import { median } from './statistics.ts';

const ROUNDS = 7;
const ROUND_MS = 700;
const WIDTH = 8;

export interface Paths {
  readonly direct: string;
  readonly directPort: number;
  readonly service: string;
  readonly servicePort: number;
}

export interface ConnectRate {
  /** Median of the rounds' ratios: service rate / direct rate. */
  readonly ratio: number;
  /** Connections through the Service that were not answered. */
  readonly failed: number;
}

export async function connectRate(client: Host, paths: Paths): Promise<ConnectRate> {
  let failed = 0;
  const rate = async (ip: string, port: number): Promise<number> => {
    const { load } = await client.call('startLoad', { targets: [{ proto: 'TCP', ip, port }], width: WIDTH });
    await new Promise((resolve) => setTimeout(resolve, ROUND_MS));
    const { answered, attempts, startedAt, endedAt } = await client.call('stopLoad', { load });
    const lost = Math.max(0, attempts - answered - WIDTH); // some are on their way when the load ends
    if (lost > 0 && ip === paths.direct) throw new Error(`connections straight to ${ip}:${port} fail`);
    failed += lost;
    return answered / (endedAt - startedAt);
  };
  const ratios: number[] = [];
  for (let round = 0; round <= ROUNDS; round++) {
    const straight = async () => rate(paths.direct, paths.directPort);
    const through = async () => rate(paths.service, paths.servicePort);
    // Taking turns in being first evens out a machine that gets slower or faster.
    const first = round % 2 === 0 ? await straight() : await through();
    const second = round % 2 === 0 ? await through() : await straight();
    if (round > 0) ratios.push(round % 2 === 0 ? second / first : first / second);
  }
  return { ratio: median(ratios), failed };
}
