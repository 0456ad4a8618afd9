// What a check is, and the few verbs all checks are written in.
import { isIP } from 'node:net';
import type { Test } from 'tap';
import type { Family } from '../../native/ip.ts';
import type { Capability, Client, Dial, DialResult, Service } from '../cluster/cluster.ts';
import type { Stage } from '../stage.ts';

export interface Check {
  readonly name: string;
  /** What the cluster must be able to do. */
  readonly needs?: readonly Capability[];
  run(t: Test, stage: Stage): Promise<void>;
}

/** Thrown by a check that finds out, before its first assertion, that this cluster cannot show it. */
export class SkipCheck extends Error {}

const PAUSE_MS = 200;
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Repeats `look` until it finds nothing wrong, at most as long as the cluster may take to settle. One assertion; when it
 * fails it tells what was wrong last.
 * @param look answers what is wrong, or null
 */
export async function eventually(
  t: Test,
  stage: Stage,
  name: string,
  look: () => Promise<string | null>,
): Promise<void> {
  const deadline = performance.now() + stage.cluster.settleMs;
  for (;;) {
    const wrong = await look().catch((error: Error) => error.message);
    if (wrong === null) {
      t.pass(name);
      return;
    }
    if (performance.now() > deadline) {
      t.fail(`${name}: ${wrong}`);
      return;
    }
    await pause(PAUSE_MS);
  }
}

export const text = ({ responses, errors }: DialResult): string =>
  [...new Set(responses), ...errors.slice(0, 2).map((error) => `error: ${error}`)].join(', ') || 'no answer';

/** Dials until all tries are answered by these servers and no others; with `all`, by each of them. */
export async function reaches(
  t: Test,
  stage: Stage,
  client: Client,
  dial: Dial,
  servers: readonly string[],
  { all = false, name = '' } = {},
): Promise<void> {
  const where = `${dial.protocol ?? 'http'} ${dial.host}:${dial.port}`;
  await eventually(t, stage, `${client.name} → ${where}${name && `, ${name}`}`, async () => {
    const result = await stage.cluster.dial(client, dial);
    const seen = new Set(result.responses);
    const strange = [...seen].some((host) => !servers.includes(host));
    const missed = all && servers.some((host) => !seen.has(host));
    const good = result.errors.length === 0 && seen.size > 0 && !strange && !missed;
    return good ? null : `expected ${servers.join(', ')}, found ${text(result)}`;
  });
}

/** Dials until the connection fails; `how` must match the error. */
export async function fails(t: Test, stage: Stage, client: Client, dial: Dial, how = /./): Promise<void> {
  await eventually(t, stage, `${client.name} → ${dial.host}:${dial.port} fails`, async () => {
    const result = await stage.cluster.dial(client, dial);
    const good = result.responses.length === 0 && result.errors.some((error) => how.test(error));
    return good ? null : `expected ${how}, found ${text(result)}`;
  });
}

/** Errors of Linux for a connection that is refused, also as ICMP. */
export const REFUSED = /refused/i;

const addressOf = (endpoint: string): string => endpoint.replace(/:\d+$/, '').replace(/^\[(?:::ffff:)?(.*)\]$/, '$1');

/** Dials until the server sees an address that `wanted` holds for. */
export async function seenAs(
  t: Test,
  stage: Stage,
  client: Client,
  dial: Dial,
  what: string,
  wanted: (ip: string) => boolean,
): Promise<void> {
  await eventually(t, stage, `${client.name} → ${dial.host}:${dial.port}: ${what}`, async () => {
    const result = await stage.cluster.dial(client, { ...dial, request: 'clientip' });
    const good = result.errors.length === 0 && result.responses.length > 0;
    const right = result.responses.every((seen) => isIP(addressOf(seen)) !== 0 && wanted(addressOf(seen)));
    return good && right ? null : `found ${text(result)}`;
  });
}

/** Port numbers of a Service by the port's name. */
export function nodePort(service: Service, name = 'http'): number {
  const found = service.spec.ports.find((port) => port.name === name)?.nodePort;
  if (found === undefined) throw new Error(`Service ${service.metadata.name} has no node port "${name}"`);
  return found;
}

/** Calls `act` for each family that the cluster and the Service have, with its cluster IP. */
export async function eachClusterIp(
  stage: Stage,
  service: Service,
  act: (ip: string, family: Family) => Promise<void>,
): Promise<void> {
  for (const family of stage.families) {
    const ip = service.spec.clusterIPs?.find((ip) => ip.includes(':') === (family === 'IPv6'));
    if (ip !== undefined) await act(ip, family);
  }
}

/** Keeps dialing from the newcomer while `act` runs. @returns tries and what failed */
export async function underLoad(
  stage: Stage,
  dial: Dial,
  act: () => Promise<void>,
): Promise<{ tries: number; errors: string[] }> {
  const TRIES = 20;
  let running = true;
  let tries = 0;
  const errors: string[] = [];
  const load = async (): Promise<void> => {
    do {
      const result = await stage.cluster.dial(stage.newcomer, { ...dial, tries: TRIES });
      tries += TRIES;
      errors.push(...result.errors);
    } while (running);
  };
  const loads = [load(), load()];
  // Awaited at once: one that fails while `act` runs is told when that is over.
  const ended = Promise.allSettled(loads);
  try {
    await act();
  } finally {
    running = false;
    await ended;
  }
  await Promise.all(loads);
  return { tries, errors };
}
