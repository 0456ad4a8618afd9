// X-16…X-18: what becomes of a connection's first packet, in the rules of each backend.
import assert from 'node:assert/strict';
import type { Packet } from '../../support/ruleset-simulator.ts';
import { type BackendName, isBackend, type SimulatedOutcome, simulated } from '../../support/vector-simulators.ts';
import type { NotTested, Vector } from '../vector.ts';

interface Result {
  result: string;
  endpoints?: string[];
  masquerade?: boolean | string[];
}

interface Flow {
  name: string;
  source: { ip: string; interface: string | null };
  protocol: Packet['protocol'];
  destination: { ip: string; port?: number };
  expect: Record<string, Result>;
}

/** Marks and priorities of others, which must come out as they went in. */
const FOREIGN_MARK = 0x2001;
const FOREIGN_PRIORITY = 0x10007;

export async function run(vector: Vector): Promise<NotTested> {
  const flows = (vector as unknown as { flows: Flow[] }).flows;
  const backends = new Map<BackendName, Awaited<ReturnType<typeof simulated>>>();
  const notTested: NotTested = {};
  for (const { name, source, protocol, destination, expect } of flows) {
    for (const [backend, expected] of Object.entries(expect)) {
      if (!isBackend(backend)) {
        notTested[backend] = (notTested[backend] ?? 0) + 1;
        continue;
      }
      const options = { mark: FOREIGN_MARK, priority: FOREIGN_PRIORITY };
      if (!backends.has(backend)) backends.set(backend, await simulated(backend, vector.input, options));
      const packet: Packet = {
        source: source.ip,
        interface: source.interface,
        protocol,
        destination: destination.ip,
        ...(destination.port !== undefined && { port: destination.port }),
      };
      check(backends.get(backend)!.outcomes(packet), expectedOf(backend, expected), `${backend}: ${name}`);
    }
  }
  return notTested;
}

/**
 * The reference's ipvs mode accepts packets to health check ports in iptables (S-52). An accept in nf_tables would not
 * keep other tables from dropping them, so there is none here: such packets pass.
 */
function expectedOf(backend: BackendName, expected: Result): Result {
  return backend === 'ipvs' && expected.result === 'ACCEPT' ? { result: 'PASS' } : expected;
}

function check(outcomes: readonly SimulatedOutcome[], expected: Result, name: string): void {
  const results = [...new Set(outcomes.map((outcome) => outcome.result))];
  assert.deepEqual(results, [expected.result], name);
  for (const { postrouting, mark, priority, result } of outcomes) {
    if (!postrouting) continue;
    assert.equal(mark, FOREIGN_MARK, `${name}: mark after postrouting`);
    if (priority === null) continue;
    // A lookup of a service address replaces the priority by a word, which must be gone by now.
    const allowed = result === 'DNAT' ? [0] : [0, FOREIGN_PRIORITY];
    assert.ok(allowed.includes(priority), `${name}: priority ${priority} after postrouting`);
  }
  if (expected.result !== 'DNAT') {
    assert.deepEqual(Object.keys(expected), ['result'], `${name}: expectation`);
    assert.ok(!outcomes.some((outcome) => outcome.masquerade), `${name}: masquerade`);
    return;
  }
  const chances = new Map<string, number>();
  const masqueraded = new Map<string, boolean>();
  for (const { endpoint, probability, masquerade } of outcomes) {
    chances.set(endpoint!, (chances.get(endpoint!) ?? 0) + probability);
    assert.equal(masqueraded.get(endpoint!) ?? masquerade, masquerade, `${name}: masquerade of ${endpoint} varies`);
    masqueraded.set(endpoint!, masquerade);
  }
  const endpoints = [...expected.endpoints!].sort();
  assert.deepEqual([...chances.keys()].sort(), endpoints, `${name}: endpoints`);
  for (const [endpoint, chance] of chances) {
    assert.ok(Math.abs(chance - 1 / endpoints.length) < 1e-9, `${name}: ${endpoint} has probability ${chance}`);
  }
  const { masquerade = false } = expected;
  for (const [endpoint, actual] of masqueraded) {
    const wanted = typeof masquerade === 'boolean' ? masquerade : masquerade.includes(endpoint);
    assert.equal(actual, wanted, `${name}: masquerade to ${endpoint}`);
  }
}
