// Each kind of Service is reached from pods, from nodes and from outside, over TCP and UDP, in each family.

import type { Test } from 'tap';
import { HTTP_PORT, ofFamily, UDP_PORT } from '../cluster/cluster.ts';
import { EXTERNAL_IPS, INGRESS_IPS, type Stage } from '../stage.ts';
import { type Check, eachClusterIp, eventually, fails, nodePort, REFUSED, reaches, SkipCheck } from './check.ts';

/** Addresses of documentation, from all clients that can come to them. */
async function fromAll(t: Test, stage: Stage, ips: readonly string[]): Promise<void> {
  for (const family of stage.families) {
    const ip = ofFamily(ips, family);
    if (ip === undefined) continue;
    for (const client of stage.clients) {
      await reaches(t, stage, client, { host: ip, port: 80 }, stage.names());
      await reaches(t, stage, client, { host: ip, port: 81, protocol: 'udp' }, stage.names());
    }
  }
}

export const REACHABILITY: readonly Check[] = [
  {
    name: 'pods are reached without a Service',
    async run(t, stage) {
      for (const family of stage.families)
        for (const server of stage.servers)
          for (const client of stage.clients.filter(({ kind }) => kind === 'pod')) {
            const host = ofFamily(server.ips, family)!;
            await reaches(t, stage, client, { host, port: HTTP_PORT }, [server.name]);
            await reaches(t, stage, client, { host, port: UDP_PORT, protocol: 'udp' }, [server.name]);
          }
    },
  },
  {
    name: 'ClusterIP',
    async run(t, stage) {
      const service = await stage.service(t, 'cluster-ip');
      await eachClusterIp(stage, service, async (host) => {
        for (const client of stage.clients.filter(({ kind }) => kind !== 'outside')) {
          await reaches(t, stage, client, { host, port: 80 }, stage.names());
          await reaches(t, stage, client, { host, port: 81, protocol: 'udp' }, stage.names());
        }
        const [first] = stage.nodes;
        const many = { host, port: 80, tries: 40 };
        await reaches(t, stage, stage.pod(first), many, stage.names(), { all: true, name: 'all endpoints' });
      });
    },
  },
  {
    name: 'NodePort',
    async run(t, stage) {
      const service = await stage.service(t, 'node-port', { type: 'NodePort' });
      for (const family of stage.families)
        for (const node of new Set(stage.nodes)) {
          const host = ofFamily(node.ips, family);
          if (host === undefined) continue;
          for (const client of stage.clients) {
            await reaches(t, stage, client, { host, port: nodePort(service) }, stage.names());
            const udp = { host, port: nodePort(service, 'udp'), protocol: 'udp' } as const;
            await reaches(t, stage, client, udp, stage.names());
          }
        }
    },
  },
  {
    name: 'LoadBalancer, addresses from its status',
    async run(t, stage) {
      await stage.loadBalancer(t, 'load-balancer');
      await fromAll(t, stage, INGRESS_IPS);
    },
  },
  {
    name: 'externalIPs',
    async run(t, stage) {
      try {
        await stage.service(t, 'external-ips', { externalIPs: EXTERNAL_IPS });
      } catch (error) {
        if (!/denied|forbidden/i.test((error as Error).message)) throw error;
        throw new SkipCheck(`the cluster does not allow externalIPs: ${(error as Error).message}`);
      }
      await fromAll(t, stage, EXTERNAL_IPS);
    },
  },
  {
    name: 'a pod reaches itself through its Service',
    async run(t, stage) {
      const [server] = stage.servers;
      const service = await stage.service(t, 'hairpin', { selector: { app: 'server', pod: server!.name } });
      await eachClusterIp(stage, service, (host) =>
        reaches(t, stage, { ...server!, kind: 'pod' }, { host, port: 80 }, [server!.name]),
      );
    },
  },
  {
    name: 'a Service without endpoints refuses',
    async run(t, stage) {
      const service = await stage.service(t, 'empty', { selector: { app: 'nobody' } });
      await eachClusterIp(stage, service, (host) =>
        fails(t, stage, stage.pod(stage.nodes[0]), { host, port: 80 }, REFUSED),
      );
    },
  },
  {
    name: 'a headless Service has no rules',
    needs: ['agent-dump'],
    async run(t, stage) {
      // Rules of every mode have the port of their Service, but not its name.
      const [headless, after] = [54_321, 54_322];
      const ports = (port: number) => [{ name: 'http', protocol: 'TCP', port, targetPort: HTTP_PORT }];
      await stage.service(t, 'headless', { clusterIP: 'None', ports: ports(headless) });
      await stage.service(t, 'after-headless', { ports: ports(after) });
      const [node] = stage.nodes;
      await eventually(t, stage, 'rules of the Service after it, none of its own', async () => {
        const rules = await stage.cluster.dump(node.name, ['--output', 'rules']);
        if (!rules.includes(String(after))) return 'the Service after it has no rules yet';
        return rules.includes(String(headless)) ? 'it has rules' : null;
      });
    },
  },
];
