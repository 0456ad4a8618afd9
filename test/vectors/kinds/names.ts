// X-26: names of the chains of a ServicePort. Names in the other mode are a mechanism and not compared.
import assert from 'node:assert/strict';
import { endpointChain, serviceChains } from '../../../backends/iptables/names.ts';
import type { Protocol } from '../../../backends/service-plan.ts';
import type { Vector } from '../vector.ts';

interface Input {
  namespace: string;
  name: string;
  portName: string;
  protocol: Protocol;
  endpoints: { ip: string; port: number }[];
}

export function run({ input, expect }: Vector): void {
  const { namespace, name, portName, protocol, endpoints }: Input = input;
  const port = `${namespace}/${name}${portName === '' ? '' : `:${portName}`}`;
  const { cluster, local, external, firewall } = serviceChains(port, protocol);
  const keys = endpoints.map((e) => (e.ip.includes(':') ? `[${e.ip}]:${e.port}` : `${e.ip}:${e.port}`));
  const SEP = Object.fromEntries(keys.map((key) => [key, endpointChain(port, protocol, key)]));
  assert.deepEqual({ SVC: cluster, SVL: local, EXT: external, FW: firewall, SEP }, expect.iptables);
}
