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

/** Median of the rounds' ratios: service rate / direct rate. */
export async function connectRatio(client: Host, paths: Paths): Promise<number> {
  const rate = async (ip: string, port: number): Promise<number> => {
    const { load } = await client.call('startLoad', { targets: [{ proto: 'TCP', ip, port }], width: WIDTH });
    await new Promise((resolve) => setTimeout(resolve, ROUND_MS));
    const { answered, attempts, startedAt, endedAt } = await client.call('stopLoad', { load });
    if (answered < attempts - WIDTH)
      throw new Error(`${attempts - answered} of ${attempts} connections to ${ip}:${port} failed`);
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
  return median(ratios);
}
