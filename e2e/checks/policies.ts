// Which endpoints are chosen and which source address they see: affinity, traffic policies, health check node ports.
import type { Test } from 'tap';
import { type Client, type ClusterNode, ofFamily, type Service } from '../cluster/cluster.ts';
import { INGRESS_IPS, type Stage } from '../stage.ts';
import { type Check, eachClusterIp, eventually, fails, nodePort, reaches, SkipCheck, seenAs, text } from './check.ts';

/** A selector of the servers on the first node. */
const onFirst = (stage: Stage): Record<string, unknown> => ({ selector: { app: 'server', node: stage.nodes[0].name } });

/** Someone who comes to a node from elsewhere, with a real address: a machine outside, else another node. */
export function stranger(stage: Stage, to: ClusterNode): Client {
  const found = stage.outside ?? stage.clients.find(({ kind, node }) => kind === 'node' && node !== to.name);
  if (found === undefined) throw new SkipCheck('no client comes from another machine');
  return found;
}

async function sourceAtNodePort(t: Test, stage: Stage, service: Service, kept: boolean): Promise<void> {
  const [first] = stage.nodes;
  const client = stranger(stage, first);
  for (const family of stage.families) {
    const host = ofFamily(first.ips, family);
    if (host === undefined || ofFamily(client.ips, family) === undefined) continue;
    const what = kept ? 'the client’s own address' : 'masqueraded';
    await seenAs(t, stage, client, { host, port: nodePort(service) }, what, (ip) => client.ips.includes(ip) === kept);
  }
}

export const POLICIES: readonly Check[] = [
  {
    name: 'session affinity ClientIP',
    async run(t, stage) {
      const service = await stage.service(t, 'affinity', { sessionAffinity: 'ClientIP' });
      const client = stage.pod(stage.nodes[0]);
      await eachClusterIp(stage, service, async (host) => {
        await reaches(t, stage, client, { host, port: 80 }, stage.names());
        await eventually(t, stage, `${client.name} → ${host}: 12 connections, one endpoint`, async () => {
          const result = await stage.cluster.dial(client, { host, port: 80, tries: 12 });
          const one = result.errors.length === 0 && new Set(result.responses).size === 1;
          return one ? null : `found ${text(result)}`;
        });
      });
    },
  },
  {
    name: 'source address kept at a ClusterIP',
    async run(t, stage) {
      const service = await stage.service(t, 'source');
      const clients = stage.clients.filter(({ kind }) => kind === 'pod');
      await eachClusterIp(stage, service, async (host) => {
        for (const client of clients)
          await seenAs(t, stage, client, { host, port: 80, tries: 6 }, 'own address', (ip) => client.ips.includes(ip));
      });
    },
  },
  {
    name: 'internalTrafficPolicy Local',
    needs: ['two-nodes'],
    async run(t, stage) {
      const [first, second] = stage.nodes;
      const local = { internalTrafficPolicy: 'Local' };
      const service = await stage.service(t, 'internal-local', local);
      const part = await stage.service(t, 'internal-local-part', { ...local, ...onFirst(stage) });
      await eachClusterIp(stage, service, async (host) => {
        for (const node of [first, second])
          await reaches(t, stage, stage.pod(node), { host, port: 80, tries: 8 }, stage.names(node));
      });
      await eachClusterIp(stage, part, (host) => fails(t, stage, stage.pod(second), { host, port: 80 }));
    },
  },
  {
    name: 'externalTrafficPolicy Cluster masquerades',
    async run(t, stage) {
      await sourceAtNodePort(t, stage, await stage.service(t, 'external-cluster', { type: 'NodePort' }), false);
    },
  },
  {
    name: 'externalTrafficPolicy Local keeps the client’s address',
    async run(t, stage) {
      const policy = { type: 'NodePort', externalTrafficPolicy: 'Local' };
      await sourceAtNodePort(t, stage, await stage.service(t, 'external-local', policy), true);
    },
  },
  {
    name: 'externalTrafficPolicy Local uses endpoints of the node only',
    needs: ['two-nodes'],
    async run(t, stage) {
      const [first, second] = stage.nodes;
      const policy = { type: 'NodePort', externalTrafficPolicy: 'Local' };
      const service = await stage.service(t, 'external-local-all', policy);
      const part = await stage.service(t, 'external-local-part', { ...policy, ...onFirst(stage) });
      for (const family of stage.families) {
        for (const node of [first, second]) {
          const client = stranger(stage, node);
          const host = ofFamily(node.ips, family);
          if (host === undefined || ofFamily(client.ips, family) === undefined) continue;
          const dial = { host, port: nodePort(service), tries: 8 };
          await reaches(t, stage, client, dial, stage.names(node));
        }
        const client = stranger(stage, second);
        const host = ofFamily(second.ips, family);
        if (host !== undefined && ofFamily(client.ips, family) !== undefined)
          await fails(t, stage, client, { host, port: nodePort(part) });
      }
    },
  },
  {
    name: 'a load balancer with externalTrafficPolicy Local',
    needs: ['outside'],
    async run(t, stage) {
      const [first] = stage.nodes;
      const client = stage.outside!;
      const policy = { externalTrafficPolicy: 'Local' };
      await stage.loadBalancer(t, 'load-balancer-local', policy);
      for (const family of stage.families) {
        const host = ofFamily(INGRESS_IPS, family)!;
        await reaches(t, stage, client, { host, port: 80, tries: 8 }, stage.names(first));
        await seenAs(t, stage, client, { host, port: 80 }, 'own address', (ip) => client.ips.includes(ip));
      }
    },
  },
  {
    name: 'loadBalancerSourceRanges',
    needs: ['outside'],
    async run(t, stage) {
      const client = stage.outside!;
      const ranges = (ips: readonly string[]) => ({
        loadBalancerSourceRanges: ips.map((ip) => `${ip}/${ip.includes(':') ? 128 : 32}`),
      });
      await stage.loadBalancer(t, 'ranges', ranges(client.ips));
      for (const family of stage.families)
        await reaches(t, stage, client, { host: ofFamily(INGRESS_IPS, family)!, port: 80 }, stage.names());
      await stage.loadBalancer({ teardown() {} }, 'ranges', ranges(['192.0.2.1', '2001:db8::1']));
      for (const family of stage.families)
        await fails(t, stage, client, { host: ofFamily(INGRESS_IPS, family)!, port: 80 });
    },
  },
  {
    name: 'health check node port',
    needs: ['two-nodes'],
    async run(t, stage) {
      const policy = { externalTrafficPolicy: 'Local', ...onFirst(stage) };
      const service = await stage.loadBalancer(t, 'health', policy);
      const port = service.spec.healthCheckNodePort;
      if (port === undefined) throw new Error('the Service has no healthCheckNodePort');
      const [first] = stage.nodes;
      for (const node of stage.nodes) {
        const client = stranger(stage, node);
        const expected = node === first ? stage.names(first).length : 0;
        for (const family of stage.families) {
          const host = ofFamily(node.ips, family);
          if (host === undefined || ofFamily(client.ips, family) === undefined) continue;
          await eventually(t, stage, `${client.name} → ${host}:${port}: ${expected} local endpoints`, async () => {
            const result = await stage.cluster.dial(client, { host, port, request: 'healthz' });
            const [body = ''] = result.responses;
            const good = body !== '' && JSON.parse(body).localEndpoints === expected;
            return good ? null : `found ${text(result)}`;
          });
        }
      }
    },
  },
];
