// A kind cluster without kube-proxy: one control plane and two workers in containers, the agent from this project's image,
// and one more container on their network as the machine outside.
import { existsSync } from 'node:fs';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Options } from '../options.ts';
import { Agents } from './agents.ts';
import { collectInto } from './artifacts.ts';
import { type Client, type Cluster, ofFamily, type ProxyMode } from './cluster.ts';
import { type Extras, KubeCluster } from './kube.ts';
import { Kubectl } from './kubectl.ts';
import { NODE_CLIENT_PORT } from './pod-manifests.ts';
import { programsMissing } from './programs.ts';
import type { Provider } from './provider.ts';
import { runProgram } from './run-program.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const LONG_MS = 1_200_000;
/** Of all pods, by what kind calls the families. */
const POD_SUBNETS = {
  ipv4: '10.244.0.0/16',
  ipv6: 'fd00:10:244::/56',
  dual: '10.244.0.0/16,fd00:10:244::/56',
} as const;
const SERVICE_SUBNETS = {
  ipv4: '10.96.0.0/16',
  ipv6: 'fd00:10:96::/112',
  dual: '10.96.0.0/16,fd00:10:96::/112',
} as const;
/** Of the addresses in stage.ts: through the first worker. */
const OUTSIDE_ROUTES = ['203.0.113.0/24', '2001:db8:e2e::/64'] as const;

export type IpFamily = keyof typeof POD_SUBNETS;

/** kind's cluster file. Pure. */
export function kindConfig(family: IpFamily, nodeImage: string | null): Record<string, unknown> {
  const image = nodeImage === null ? {} : { image: nodeImage };
  return {
    kind: 'Cluster',
    apiVersion: 'kind.x-k8s.io/v1alpha4',
    networking: {
      ipFamily: family,
      kubeProxyMode: 'none',
      podSubnet: POD_SUBNETS[family],
      serviceSubnet: SERVICE_SUBNETS[family],
    },
    nodes: ['control-plane', 'worker', 'worker'].map((role) => ({ role, ...image })),
  };
}

export class KindProvider implements Provider {
  readonly runs: readonly ProxyMode[];
  readonly #options: Options;
  readonly #name = `kubeplumb-e2e-${process.pid}`;
  readonly #kubeconfig: string;
  readonly #outsideName = `${this.#name}-outside`;
  #created: Promise<void> | null = null;
  #closed = false;
  #agents: Agents | null = null;
  #count = 0;

  constructor(options: Options, folder: string) {
    this.#options = options;
    this.runs = options.modes;
    this.#kubeconfig = join(folder, 'kubeconfig');
  }

  async missing(): Promise<string[]> {
    const lines = await programsMissing(['docker', 'kind', 'kubectl']);
    for (const file of ['Dockerfile', 'daemonset.yaml'])
      if (!existsSync(join(ROOT, file))) lines.push(`${file} is missing: run this from a clone of the project`);
    return lines;
  }

  plan(): string[] {
    const { images, ipFamily, modes } = this.#options;
    return [
      `kind create cluster: ${ipFamily}, 1 control plane and 2 workers, kubeProxyMode none`,
      ...(this.#builds ? [`docker build . (image ${images.agent})`] : []),
      `kind load docker-image ${images.agent}${this.#builds ? '' : ', where docker has it; else nodes pull it'}`,
      ...modes.map((mode) => `kubectl apply daemonset.yaml in mode ${mode}, the checks with ${images.agnhost}`),
      ...(this.#options.keep ? [] : ['kind delete cluster']),
    ];
  }

  /** The default image is made here; another one is somebody's to provide. */
  get #builds(): boolean {
    return this.#options.images.agent === 'kubeplumb:e2e';
  }

  /** What is built here is its own next version. */
  get #upgradeImage(): string | null {
    const { agent, upgrade } = this.#options.images;
    return upgrade ?? (this.#builds ? `${agent}-upgrade` : null);
  }

  async #docker(...args: string[]): Promise<string> {
    return (await runProgram('docker', args, { timeoutMs: LONG_MS })).trim();
  }

  async #kind(args: readonly string[], input = ''): Promise<void> {
    await runProgram('kind', args, { input, timeoutMs: LONG_MS, loud: true });
  }

  async #create(): Promise<void> {
    const { images, ipFamily } = this.#options;
    if (this.#builds) {
      // kind cannot load what docker adds to images otherwise.
      const env = { ...process.env, BUILDX_NO_DEFAULT_ATTESTATIONS: '1' };
      await runProgram('docker', ['build', '-t', images.agent, ROOT], { timeoutMs: LONG_MS, loud: true, env });
      if (images.upgrade === null) await this.#docker('tag', images.agent, this.#upgradeImage!);
    }
    const config = JSON.stringify(kindConfig(ipFamily, images.kindNode));
    // Nodes get ready without Services: kind's network plugin talks to the control plane's own address.
    const flags = ['--name', this.#name, '--kubeconfig', this.#kubeconfig, '--wait', '180s'];
    await this.#kind(['create', 'cluster', ...flags, '--config', '-'], config);
    const built = this.#builds ? [images.agent, ...(images.upgrade === null ? [this.#upgradeImage!] : [])] : [];
    for (const image of built) await this.#load(image);
    for (const image of [images.agent, images.upgrade, images.agnhost, images.ingress])
      if (image !== null && !built.includes(image)) await this.#loadIfHere(image);
    // kind waits for the control plane only.
    const ready = ['wait', '--for=condition=Ready', 'nodes', '--all', '--timeout=180s'];
    await new Kubectl(this.#kubeconfig).run(ready, { timeoutMs: 200_000 });
  }

  #load(image: string): Promise<void> {
    return this.#kind(['load', 'docker-image', image, '--name', this.#name]);
  }

  /** Spares the nodes to pull it, if this machine has it and kind can: not if docker pulled one platform of several. */
  async #loadIfHere(image: string): Promise<void> {
    if ((await this.#docker('images', '-q', image)) === '') return;
    await this.#load(image).catch((error: Error) =>
      process.stderr.write(`e2e: nodes pull ${image}: ${error.message}\n`),
    );
  }

  async open(mode: ProxyMode | null): Promise<Cluster> {
    const { images, ipFamily } = this.#options;
    if (this.#closed) throw new Error('the run is over');
    await (this.#created ??= this.#create());
    const kubectl = new Kubectl(this.#kubeconfig);
    const agents = (this.#agents ??= new Agents(kubectl));
    const [address] = await this.#addresses(`${this.#name}-control-plane`);
    const host = address?.includes(':') ? `[${address}]` : address;
    await agents.deploy({
      mode: mode!,
      image: images.agent,
      clusterCidr: POD_SUBNETS[ipFamily],
      apiServers: [`https://${host}:6443`],
    });
    await kubectl.run(['rollout', 'status', '-n', 'kube-system', 'deployment/coredns', '--timeout=180s'], {
      timeoutMs: 200_000,
    });
    const cluster = new KubeCluster({
      name: `kind, ${ipFamily}`,
      kubectl,
      images: { ...images, upgrade: this.#upgradeImage },
      namespace: `kubeplumb-e2e-${++this.#count}`,
      agents,
      extras: this.#extras(kubectl),
      podLimitSeconds: this.#options.podLimitSeconds,
    });
    await cluster.open();
    return cluster;
  }

  /** Of a container on kind's network, those of the cluster's families. */
  async #addresses(container: string): Promise<string[]> {
    const format = '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.GlobalIPv6Address}}{{end}}';
    // An address that is missing is nothing, or words.
    const all = (await this.#docker('inspect', '--format', format, container))
      .split(/\s+/)
      .filter((ip) => isIP(ip) !== 0);
    const { ipFamily } = this.#options;
    return all.filter((ip) => ipFamily === 'dual' || ip.includes(':') === (ipFamily === 'ipv6'));
  }

  #extras(kubectl: Kubectl): Extras {
    return {
      outside: () => this.#outside(),
      restartNode: async (node) => {
        const wait = (...what: string[]) => kubectl.run(['wait', '--timeout=300s', ...what], { timeoutMs: 330_000 });
        // Down until the cluster knows of it: what it knew of node and pods before would pass for news.
        await this.#docker('stop', node);
        await wait('--for=condition=Ready=Unknown', `node/${node}`);
        await this.#docker('start', node);
        await wait('--for=condition=Ready', `node/${node}`);
        await wait('--for=condition=Ready', 'pods', '-A', '--field-selector', `spec.nodeName=${node}`);
      },
      collect: (folder) => this.#exportLogs(folder),
    };
  }

  async #exportLogs(folder: string): Promise<[]> {
    await this.#kind(['export', 'logs', join(folder, 'kind'), '--name', this.#name]);
    return [];
  }

  async #outside(): Promise<{ client: Client; dial(path: string, timeoutMs: number): Promise<string> }> {
    const name = this.#outsideName;
    await this.#docker('rm', '-f', name);
    const run = [
      'run',
      '-d',
      '--name',
      name,
      '--network',
      'kind',
      '--cap-add',
      'NET_ADMIN',
      this.#options.images.agnhost,
    ];
    await this.#docker(...run, 'netexec', `--http-port=${NODE_CLIENT_PORT}`, '--udp-port=-1');
    const workers = await this.#addresses(`${this.#name}-worker`);
    for (const route of OUTSIDE_ROUTES) {
      const family = route.includes(':') ? 'IPv6' : 'IPv4';
      const via = ofFamily(workers, family);
      if (via !== undefined)
        await this.#docker('exec', name, 'ip', family === 'IPv6' ? '-6' : '-4', 'route', 'add', route, 'via', via);
    }
    const client: Client = { name: 'outside', kind: 'outside', node: null, ips: await this.#addresses(name) };
    const dial = (path: string, timeoutMs: number): Promise<string> =>
      runProgram('docker', ['exec', name, 'curl', '-g', '-s', '-S', `http://127.0.0.1:${NODE_CLIENT_PORT}${path}`], {
        timeoutMs,
      });
    return { client, dial };
  }

  async collect(folder: string): Promise<void> {
    const agents = async () => (await this.#agents?.evidence()) ?? [];
    await collectInto(folder, [agents, () => this.#exportLogs(folder)]);
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#created === null) return;
    if (this.#options.keep) {
      const name = this.#name;
      process.stderr.write(
        `e2e: kept: kind export kubeconfig --name ${name}; to remove it: kind delete cluster --name ${name}; docker rm -f ${this.#outsideName}\n`,
      );
      return;
    }
    try {
      await this.#docker('rm', '-f', this.#outsideName);
    } finally {
      await this.#kind(['delete', 'cluster', '--name', this.#name, '--kubeconfig', this.#kubeconfig]);
    }
  }
}
