// A cluster that is there already, given by a kubeconfig. Nothing is deployed unless asked for; whoever serves its Services,
// kube-proxy too, is what is checked.
import { randomBytes } from 'node:crypto';
import type { Options } from '../options.ts';
import { Agents } from './agents.ts';
import { collectInto } from './artifacts.ts';
import type { Cluster, ProxyMode } from './cluster.ts';
import { KubeCluster } from './kube.ts';
import { Kubectl } from './kubectl.ts';
import { programsMissing } from './programs.ts';
import type { Provider } from './provider.ts';

interface DaemonSet {
  readonly kind: string;
  readonly status?: { readonly desiredNumberScheduled?: number };
}

export class ExistingProvider implements Provider {
  readonly runs: readonly (ProxyMode | null)[];
  readonly #options: Options;
  readonly #kubectl: Kubectl;
  readonly #agents: Agents;
  #cluster: KubeCluster | null = null;

  constructor(options: Options) {
    this.#options = options;
    this.runs = options.deploy ? options.modes : [null];
    this.#kubectl = new Kubectl(options.kubeconfig);
    this.#agents = new Agents(this.#kubectl);
  }

  async missing(): Promise<string[]> {
    const lines = await programsMissing(['kubectl']);
    if (lines.length > 0) return lines;
    try {
      await this.#kubectl.run(['get', '--raw', '/version', '--request-timeout=15s']);
    } catch (error) {
      return [`the cluster of ${this.#options.kubeconfig} does not answer: ${(error as Error).message}`];
    }
    const rights = [
      ['create', 'pods', '-A'],
      ['create', 'services', '-A'],
      ['patch', 'services', '--subresource=status', '-A'],
      ['list', 'nodes'],
      ...(this.#options.namespace === null ? [['create', 'namespaces']] : []),
      ...(this.#options.deploy ? [['patch', 'daemonsets', '-n', 'kube-system']] : []),
    ];
    for (const right of rights) {
      const where =
        this.#options.namespace === null
          ? right
          : right.flatMap((a) => (a === '-A' ? ['-n', this.#options.namespace!] : [a]));
      try {
        await this.#kubectl.run(['auth', 'can-i', ...where, '--quiet']);
      } catch {
        lines.push(`the user of ${this.#options.kubeconfig} may not ${where.join(' ')}`);
      }
    }
    if (this.#options.deploy) lines.push(...(await this.#otherProxy()));
    return lines;
  }

  /** Two proxies on one node would undo each other's work. */
  async #otherProxy(): Promise<string[]> {
    const proxy = await this.#kubectl.get<DaemonSet>('daemonset', 'kube-proxy', '-n', 'kube-system');
    if (!proxy?.status?.desiredNumberScheduled) return [];
    return ['kube-proxy runs in kube-system: stop it first, as docs/migration.md tells, or leave out --deploy'];
  }

  plan(): string[] {
    const { deploy, images, kubeconfig, modes, namespace } = this.#options;
    const checks = `the checks with ${images.agnhost} in namespace ${namespace ?? 'kubeplumb-e2e-…'}, which is removed`;
    return [
      `the cluster of ${kubeconfig}`,
      ...(deploy
        ? modes.map((mode) => `kubectl apply daemonset.yaml with ${images.agent} in mode ${mode}, ${checks}`)
        : [checks]),
      ...(deploy ? ['what was deployed is taken back'] : []),
    ];
  }

  async open(mode: ProxyMode | null): Promise<Cluster> {
    const { apiServers, clusterCidr, images, namespace, podLimitSeconds } = this.#options;
    if (mode !== null) await this.#agents.deploy({ mode, image: images.agent, clusterCidr, apiServers });
    this.#cluster = new KubeCluster({
      name: `the cluster of ${this.#options.kubeconfig}`,
      kubectl: this.#kubectl,
      images,
      // Another one for each run: the former one is still going.
      namespace: namespace ?? `kubeplumb-e2e-${randomBytes(4).toString('hex')}`,
      agents: this.#agents,
      podLimitSeconds,
      channel: this.#options.channel,
    });
    await this.#cluster.open();
    return this.#cluster;
  }

  async collect(folder: string): Promise<void> {
    if (this.#options.deploy) await collectInto(folder, [() => this.#agents.evidence()]);
  }

  async close(): Promise<void> {
    try {
      await this.#cluster?.close();
    } finally {
      await this.#agents.close();
    }
  }
}
