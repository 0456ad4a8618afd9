// Pure parts of the e2e suite: options, kind's file, manifests, choice of nodes, slices and addresses.
import { existsSync, readFileSync } from 'node:fs';
import t from 'tap';
import { parse } from 'yaml';
import { underLoad } from '../../e2e/checks/check.ts';
import { agentObjects } from '../../e2e/cluster/agents.ts';
import { collectInto } from '../../e2e/cluster/artifacts.ts';
import { dialPath, dialResult, type Service } from '../../e2e/cluster/cluster.ts';
import { kindConfig } from '../../e2e/cluster/kind.ts';
import { usableNodes, whyNotReady } from '../../e2e/cluster/kube.ts';
import { endpointSlices } from '../../e2e/cluster/namespaces/endpoint-slices.ts';
import { allocated } from '../../e2e/cluster/namespaces/service-addresses.ts';
import { podObjects } from '../../e2e/cluster/pod-manifests.ts';
import { endPrograms, runProgram } from '../../e2e/cluster/run-program.ts';
import { imagesFrom } from '../../e2e/images.ts';
import { parseOptions } from '../../e2e/options.ts';
import type { Stage } from '../../e2e/stage.ts';

t.test('options', async (t) => {
  t.match(parseOptions([], {}), { provider: 'kind', modes: ['nftables', 'iptables', 'ipvs'], ipFamily: 'ipv4' });
  t.match(parseOptions([], { E2E_KUBECONFIG: 'f' }), { provider: 'existing', deploy: false, kubeconfig: 'f' });
  t.throws(() => parseOptions(['--deploy'], { E2E_KUBECONFIG: 'f' }), /--deploy needs E2E_AGENT_IMAGE/);
  t.match(parseOptions(['--proxy-mode', 'ipvs,nftables'], { E2E_DEPLOY: '1' }), {
    modes: ['ipvs', 'nftables'],
    deploy: true,
  });
  t.same(parseOptions(['--cluster', 'namespaces'], {}).modes, ['nftables']);
  t.equal(parseOptions([], { E2E_AGNHOST_IMAGE: 'mine:1' }).images.agnhost, 'mine:1');
  for (const argv of [
    ['--cluster', 'x'],
    ['--proxy-mode', 'userspace'],
    ['--ip-family', '4'],
    ['--nonsense'],
    ['--cluster', 'existing'],
  ])
    t.throws(() => parseOptions(argv, {}), /must be one of|Unknown option|needs E2E_KUBECONFIG/, argv.join(' '));
  t.throws(
    () => parseOptions([], { E2E_POD_SECONDS: 'soon' }),
    /E2E_POD_SECONDS must be a positive number, not "soon"/,
  );
});

t.test('the cluster file of kind', async (t) => {
  t.match(kindConfig('dual', null), {
    networking: { ipFamily: 'dual', kubeProxyMode: 'none' },
    nodes: [{ role: 'control-plane' }, { role: 'worker' }, { role: 'worker' }],
  });
  t.match(kindConfig('ipv6', 'node:1'), { nodes: [{ image: 'node:1' }] });
});

t.test('daemonset.yaml with settings', async (t) => {
  const text = readFileSync(new URL('../../daemonset.yaml', import.meta.url), 'utf8');
  const settings = {
    mode: 'ipvs',
    image: 'mine:2',
    clusterCidr: '10.1.0.0/16',
    apiServers: ['https://a:1', 'https://b:1'],
  } as const;
  const objects = agentObjects(text, settings);
  const kinds = objects.map(({ kind }) => kind);
  t.same(kinds, ['ServiceAccount', 'ClusterRole', 'ClusterRoleBinding', 'ConfigMap', 'DaemonSet']);
  const { data } = objects[3] as unknown as { data: Record<string, string> };
  t.match(parse(data['config.conf']!), { mode: 'ipvs', clusterCIDR: '10.1.0.0/16', kind: 'KubeProxyConfiguration' });
  t.equal(parse(data['config.conf']!).conntrack.maxPerCore, 0, 'limits of the machine are left alone');
  t.equal(data.apiservers, 'https://a:1,https://b:1');
  t.notMatch(JSON.stringify(objects[4]), /"image":"(?!mine:2)/, 'all containers have the image');
});

t.test('nodes that pods can run on', async (t) => {
  const node = (name: string, spec = {}, ready = 'True') => ({
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name },
    spec,
    status: {
      conditions: [{ type: 'Ready', status: ready }],
      addresses: ['10.0.0.1', '10.0.0.2', 'fd00::1'].map((address) => ({ type: 'InternalIP', address })),
    },
  });
  const nodes = usableNodes([
    node('good'),
    node('control-plane', { taints: [{ effect: 'NoSchedule' }] }),
    node('preferred', { taints: [{ effect: 'PreferNoSchedule' }] }),
    node('cordoned', { unschedulable: true }),
    node('down', {}, 'Unknown'),
  ]);
  t.same(nodes, [
    { name: 'good', ips: ['10.0.0.1', 'fd00::1'] },
    { name: 'preferred', ips: ['10.0.0.1', 'fd00::1'] },
  ]);
});

t.test('why a pod is not ready', async (t) => {
  const pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p' }, spec: { nodeName: 'n' } };
  const waiting = { reason: 'ImagePullBackOff', message: 'no such image' };
  t.equal(
    whyNotReady({ ...pod, status: { containerStatuses: [{ state: { waiting } }] } }),
    'pod p is not ready: ImagePullBackOff no such image',
  );
  t.match(whyNotReady({ ...pod, status: {} }), /its containers were not started/);
});

t.test('pods keep to the restricted profile, and an ingress gets its configuration', async (t) => {
  const images = { ...imagesFrom({}), ingress: 'nginx:1' };
  const spec = { name: 'p', node: 'n', labels: { app: 'x' } };
  const [pod] = podObjects(spec, { namespace: 'e2e', images });
  t.match(pod, {
    spec: {
      hostNetwork: false,
      containers: [
        {
          securityContext: {
            allowPrivilegeEscalation: false,
            capabilities: { drop: ['ALL'] },
            runAsNonRoot: true,
            seccompProfile: { type: 'RuntimeDefault' },
          },
        },
      ],
    },
  });
  const objects = podObjects({ ...spec, forwardTo: 'http://10.0.0.1:80' }, { namespace: 'e2e', images });
  t.same(
    objects.map(({ kind }) => kind),
    ['ConfigMap', 'Pod'],
  );
  t.match(JSON.stringify(objects[0]), /proxy_pass http:\/\/10\.0\.0\.1:80;/);
});

t.test('EndpointSlices of a Service with two families', async (t) => {
  const service = allocated(
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 's' },
      spec: { selector: { app: 'x' }, ports: [{ name: 'http', port: 80, targetPort: 8080 }] },
    },
    undefined,
    () => 1,
  );
  const pod = (name: string, labels: Record<string, string>, terminating = false) => ({
    name,
    node: 'n',
    ips: ['10.0.0.1', 'fd00::1'],
    labels,
    terminating,
  });
  const slices = endpointSlices(service, [
    pod('a', { app: 'x' }),
    pod('b', { app: 'x' }, true),
    pod('c', { app: 'y' }),
  ]);
  const ready = { ready: true, serving: true, terminating: false };
  const ending = { ready: false, serving: true, terminating: true };
  t.match(slices, [
    {
      addressType: 'IPv4',
      endpoints: [
        { addresses: ['10.0.0.1'], conditions: ready, nodeName: 'n' },
        { addresses: ['10.0.0.1'], conditions: ending },
      ],
      ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
    },
    { addressType: 'IPv6', endpoints: [{ addresses: ['fd00::1'] }, {}] },
  ]);
  t.equal((slices[0]!.endpoints as unknown[]).length, 2);
});

t.test('addresses of Services: distinct, and kept', async (t) => {
  let count = 0;
  const make = (name: string, present?: Service) =>
    allocated(
      {
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name },
        spec: { type: 'LoadBalancer', externalTrafficPolicy: 'Local', ports: [{ name: 'http', port: 80 }] },
      },
      present,
      () => ++count,
    );
  const first = make('a');
  const second = make('b');
  const numbers = [first, second].flatMap(({ spec }) => [spec.ports[0]!.nodePort, spec.healthCheckNodePort]);
  t.equal(new Set(numbers).size, 4);
  t.not(first.spec.clusterIPs![0], second.spec.clusterIPs![0]);
  t.same(make('a', first).spec, first.spec);
});

t.test('load that cannot be made while something happens is told when that is over', async (t) => {
  const stage = { cluster: { dial: () => Promise.reject(new Error('no way to the client')) } } as unknown as Stage;
  let over = false;
  const act = async (): Promise<void> => {
    await new Promise((resolve) => setTimeout(resolve, 20));
    over = true;
  };
  await t.rejects(underLoad(stage, { host: '10.0.0.1', port: 80 }, act), { message: 'no way to the client' });
  t.ok(over);
});

t.test('programs that run are ended with their children, later ones are not', async (t) => {
  const folder = t.testdir({});
  const script = `(sleep 60; echo > ${folder}/late) & echo > ${folder}/started; wait`;
  const program = runProgram('sh', ['-c', script]);
  while (!existsSync(`${folder}/started`)) await new Promise((resolve) => setTimeout(resolve, 5));
  endPrograms();
  // Not before the child is gone: it holds the output.
  await t.rejects(program, { message: /ended by SIGTERM/ });
  t.equal(await runProgram('echo', ['next']), 'next\n');
  await t.rejects(runProgram('sleep', ['60'], { timeoutMs: 20 }), { message: /ended by SIGTERM/ });
});

t.test('what one source of evidence cannot tell keeps no other from it', async (t) => {
  const folder = t.testdir({});
  await collectInto(folder, [() => Promise.reject(new Error('gone')), async () => [['a.log', 'text']]]);
  t.equal(readFileSync(`${folder}/a.log`, 'utf8'), 'text');
});

t.test('dialing', async (t) => {
  t.equal(
    dialPath({ host: 'fd00::1', port: 80 }),
    '/dial?host=fd00%3A%3A1&port=80&request=hostname&protocol=http&tries=1',
  );
  t.same(dialResult('{"errors":["x"]}'), { responses: [], errors: ['x'] });
  t.throws(() => dialResult('404 page not found\n'), /dial: 404 page not found/);
});
