// health check node ports, the answers of their servers.
import assert from 'node:assert/strict';
import { healthCheckPort } from '../../../agent/plan/health-check-ports.ts';
import { serviceHealthAnswer } from '../../../agent/serve/service-health.ts';
import type { Family } from '../../../native/ip.ts';
import { sameSet, stateOf } from '../vector.ts';

interface Vector {
  input: {
    nodeName: string;
    family: Family;
    steps: { services: unknown[]; endpointSlices: unknown[]; proxyHealthy: boolean }[];
  };
  expect: { steps: unknown[][] };
}

export function run(vector: Vector): void {
  const { nodeName, family, steps } = vector.input;
  assert.equal(steps.length, vector.expect.steps.length);
  for (const [i, { services, endpointSlices, proxyHealthy }] of steps.entries()) {
    const state = stateOf({ nodeName, services, endpointSlices });
    const servers = [...state.serviceKeys()].flatMap((key) => {
      const found = healthCheckPort({ service: state.service(key), family, slices: state.slices(key, family) });
      if (found === null) return [];
      const { status, headers, body } = serviceHealthAnswer(found.service, found.localEndpoints, proxyHealthy);
      return [
        {
          service: `${body.service.namespace}/${body.service.name}`,
          port: found.port,
          localEndpoints: body.localEndpoints,
          status,
          weight: headers['X-Load-Balancing-Endpoint-Weight'],
          serviceProxyHealthy: body.serviceProxyHealthy,
        },
      ];
    });
    sameSet(servers, vector.expect.steps[i]!, `step ${i}`);
  }
}
