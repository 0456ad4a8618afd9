// What applications do with Services: names, an ingress controller, rolling updates, endpoints that come and go.
import { HTTP_PORT, hostPort, ofFamily } from '../cluster/cluster.ts';
import { INGRESS_IPS } from '../stage.ts';
import { type Check, eachClusterIp, eventually, nodePort, reaches, seenAs, text, underLoad } from './check.ts';
import { stranger } from './policies.ts';

export const APPLICATIONS: readonly Check[] = [
  {
    name: 'cluster DNS',
    needs: ['dns'],
    async run(t, stage) {
      await stage.service(t, 'by-name');
      for (const client of stage.clients.filter(({ kind }) => kind === 'pod'))
        for (const host of ['by-name', `by-name.${stage.cluster.namespace}.svc`])
          await reaches(t, stage, client, { host, port: 80 }, stage.names());
    },
  },
  {
    name: 'an ingress behind a load balancer: the client’s address, and a backend behind its own Service',
    needs: ['two-nodes'],
    async run(t, stage) {
      const [first] = stage.nodes;
      const client = stranger(stage, first);
      const backend = await stage.service(t, 'backend');
      const noForwarder = stage.cluster.missing('forwarder');
      const labels = { app: 'ingress' };
      const family = stage.families.find((f) => ofFamily(client.ips, f) !== undefined)!;
      const backendIp = ofFamily(backend.spec.clusterIPs, family)!;
      const forwardTo = noForwarder === null ? { forwardTo: `http://${hostPort(backendIp, 80)}` } : {};
      t.teardown(() => stage.cluster.stopPods(['ingress']));
      await stage.cluster.startPods([{ name: 'ingress', node: first.name, labels, ...forwardTo }]);
      const service = await stage.loadBalancer(t, 'ingress', { selector: labels, externalTrafficPolicy: 'Local' });
      // Load balancer addresses lead outsiders to the node; between nodes they are handled where they are dialed.
      const outside = client.kind === 'outside';
      const host = ofFamily(outside ? INGRESS_IPS : first.ips, family)!;
      const dial = { host, port: outside ? 80 : nodePort(service) };
      const own = (ip: string): boolean => client.ips.includes(ip);
      if (noForwarder === null) {
        await reaches(t, stage, client, { ...dial, tries: 6 }, stage.names());
        await eventually(t, stage, 'the backend is told the client’s address', async () => {
          const result = await stage.cluster.dial(client, { ...dial, request: 'header?key=X-Forwarded-For' });
          return result.responses.length > 0 && result.responses.every(own) ? null : `found ${text(result)}`;
        });
        return;
      }
      t.comment(`the ingress passes nothing on by itself, it is asked to dial: ${noForwarder}`);
      await seenAs(t, stage, client, dial, 'own address', own);
      const query = new URLSearchParams({ host: backendIp, port: '80', request: 'hostname', tries: '1' });
      await eventually(t, stage, 'through the ingress to the backend', async () => {
        const result = await stage.cluster.dial(client, { ...dial, request: `dial?${query}` });
        return stage.names().some((server) => result.responses.some((r) => r.includes(server))) ? null : text(result);
      });
    },
  },
  {
    name: 'endpoints come and go',
    async run(t, stage) {
      const [first] = stage.nodes;
      const labels = { app: 'guest' };
      const service = await stage.service(t, 'guests', { selector: labels });
      const client = stage.pod(first);
      const dial = { host: service.spec.clusterIPs![0]!, port: 80, tries: 20 };
      const start = (name: string) => stage.cluster.startPods([{ name, node: first.name, labels }]);
      t.teardown(() => stage.cluster.stopPods(['guest-2']));
      await start('guest-1');
      await reaches(t, stage, client, dial, ['guest-1']);
      await start('guest-2');
      await reaches(t, stage, client, dial, ['guest-1', 'guest-2'], { all: true, name: 'two' });
      await stage.cluster.stopPods(['guest-1']);
      await reaches(t, stage, client, dial, ['guest-2'], { name: 'one is gone' });
    },
  },
  {
    name: 'a rolling update under load fails no connection',
    async run(t, stage) {
      const labels = { app: 'rolling' };
      const deployment = { name: 'rolling', replicas: 2, labels };
      t.teardown(() => stage.cluster.stopDeployment(deployment));
      await stage.cluster.startDeployment(deployment);
      const service = await stage.service(t, 'rolling', { selector: labels });
      const client = stage.pod(stage.nodes[0]);
      const seen = new Set<string>();
      await eachClusterIp(stage, service, async (host) => {
        await eventually(t, stage, `${client.name} → ${host}:80 before the update`, async () => {
          const result = await stage.cluster.dial(client, { host, port: 80, tries: 10 });
          for (const name of result.responses) seen.add(name);
          return result.errors.length === 0 && result.responses.length > 0 ? null : text(result);
        });
      });
      const host = service.spec.clusterIPs![0]!;
      const load = await underLoad(stage, { host, port: 80 }, () => stage.cluster.rollout(deployment));
      t.same(load.errors, [], `0 of ${load.tries} connections failed`);
      await eventually(t, stage, 'new pods answer', async () => {
        const result = await stage.cluster.dial(client, { host, port: 80, tries: 10 });
        return result.responses.length > 0 && result.responses.every((name) => !seen.has(name)) ? null : text(result);
      });
    },
  },
  {
    name: 'a Service changes its port and goes',
    async run(t, stage) {
      const client = stage.pod(stage.nodes[0]);
      const change = (port: number) => ({
        ports: [{ name: 'http', protocol: 'TCP', port, targetPort: HTTP_PORT }],
      });
      const service = await stage.service(t, 'changing', change(80));
      const host = service.spec.clusterIPs![0]!;
      await reaches(t, stage, client, { host, port: 80 }, stage.names());
      await stage.service({ teardown() {} }, 'changing', change(8000));
      await reaches(t, stage, client, { host, port: 8000 }, stage.names());
      await eventually(t, stage, 'the old port no longer answers', async () => {
        const result = await stage.cluster.dial(client, { host, port: 80 });
        return result.responses.length === 0 ? null : text(result);
      });
      await stage.cluster.remove('Service', 'changing');
      await eventually(t, stage, 'the new one neither, once the Service is gone', async () => {
        const result = await stage.cluster.dial(client, { host, port: 8000 });
        return result.responses.length === 0 ? null : text(result);
      });
    },
  },
];
