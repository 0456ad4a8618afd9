// etcd and the real kube-apiserver on loopback, in the network namespace of the calling test: as kubeadm starts them, with
// RBAC, service account tokens and privileged pods, and without controllers.
import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { endAtExit, hasEnded } from './namespaces.ts';
import { findPeers } from './peers.ts';
import { until } from './test-node.ts';

const ADMIN = 'test-admin';
const PORT = 6443;
const ETCD_PORT = 2379;

/** Why no control plane can be started here, or null. */
export function controlPlaneMissing(): string | null {
  const peers = findPeers(['etcd', 'kube-apiserver']);
  if (typeof peers === 'string') return peers;
  return spawnSync('kubectl', ['version', '--client']).status === 0 ? null : 'no program kubectl';
}

export interface ControlPlaneOptions {
  /** 127.0.0.1 unless given. */
  readonly bindAddress?: string;
  /** Runs what starts processes, for another network namespace than the calling one. */
  readonly within?: <T>(act: () => T) => T;
}

export class ControlPlane {
  readonly url: string;
  /** Of the administrator. */
  readonly kubeconfig: string;
  readonly #folder = mkdtempSync(join(tmpdir(), 'kubeplumb-control-plane-'));
  readonly #children: ChildProcess[] = [];
  readonly #bindAddress: string;
  readonly #within: <T>(act: () => T) => T;

  constructor({ bindAddress = '127.0.0.1', within = (act) => act() }: ControlPlaneOptions = {}) {
    this.#bindAddress = bindAddress;
    this.#within = within;
    this.url = `https://${bindAddress}:${PORT}`;
    this.kubeconfig = join(this.#folder, 'admin.conf');
  }

  /** @throws Error when the API server does not get ready; with the end of its log. */
  async start(): Promise<void> {
    const peers = findPeers(['etcd', 'kube-apiserver']);
    if (typeof peers === 'string') throw new Error(peers);
    const file = (name: string): string => join(this.#folder, name);
    const key = generateKeyPairSync('rsa', { modulusLength: 2048 });
    writeFileSync(file('sa.key'), key.privateKey.export({ type: 'pkcs1', format: 'pem' }));
    writeFileSync(file('sa.pub'), key.publicKey.export({ type: 'spki', format: 'pem' }));
    writeFileSync(file('tokens.csv'), `${ADMIN},admin,admin,system:masters\n`);
    const etcd = `http://127.0.0.1:${ETCD_PORT}`;
    this.#spawn('etcd', peers.etcd, [
      `--data-dir=${file('etcd')}`,
      '--unsafe-no-fsync',
      `--listen-client-urls=${etcd}`,
      `--advertise-client-urls=${etcd}`,
      `--listen-peer-urls=http://127.0.0.1:${ETCD_PORT + 1}`,
    ]);
    const server = this.#spawn('kube-apiserver', peers['kube-apiserver'], [
      `--etcd-servers=${etcd}`,
      `--bind-address=${this.#bindAddress}`,
      '--advertise-address=192.0.2.1',
      `--secure-port=${PORT}`,
      `--cert-dir=${file('certs')}`,
      '--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112',
      '--service-account-issuer=https://kubernetes.default.svc',
      `--service-account-key-file=${file('sa.pub')}`,
      `--service-account-signing-key-file=${file('sa.key')}`,
      `--token-auth-file=${file('tokens.csv')}`,
      '--authorization-mode=Node,RBAC',
      '--endpoint-reconciler-type=none',
      '--allow-privileged=true',
      '--disable-admission-plugins=ServiceAccount',
    ]);
    try {
      const ready = async (): Promise<boolean> => {
        if (server.exitCode !== null) throw new Error(`kube-apiserver ended with ${server.exitCode}`);
        await new Promise((resolve) => setTimeout(resolve, 200));
        try {
          this.kubeconfigFor(ADMIN, this.kubeconfig);
        } catch {
          return false; // no certificate yet
        }
        return this.#run(['get', '--raw', '/readyz'], '').status === 0;
      };
      await until('the API server is ready', ready, 90_000);
      // Made by the server itself, a moment later.
      await until('there is kube-system', () => this.#run(['get', 'ns', 'kube-system'], '').status === 0);
    } catch (cause) {
      const log = readFileSync(file('kube-apiserver.log'), 'utf8').split('\n').slice(-10).join('\n');
      throw new Error(`${(cause as Error).message}\n${log}`, { cause });
    }
  }

  #spawn(name: string, program: string, args: string[]): ChildProcess {
    const log = openSync(join(this.#folder, `${name}.log`), 'a');
    const options: SpawnOptions = { stdio: ['ignore', log, log], cwd: this.#folder };
    // Ends with the test even when that is killed, as at its time limit.
    const argv = ['--pdeathsig', 'KILL', '--', program, ...args];
    const child = this.#within(() => spawn('setpriv', argv, options));
    const { pid } = child;
    if (pid !== undefined) {
      endAtExit(pid);
      child.once('exit', () => hasEnded(pid));
    }
    this.#children.push(child);
    return child;
  }

  /** Writes a kubeconfig for the bearer of a token. */
  kubeconfigFor(token: string, path = join(this.#folder, 'user.conf')): string {
    // Leaf and the authority that signed it.
    const ca = readFileSync(join(this.#folder, 'certs/apiserver.crt')).toString('base64');
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'test', cluster: { server: this.url, 'certificate-authority-data': ca } }],
      users: [{ name: 'user', user: { token } }],
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'user' } }],
      'current-context': 'test',
    };
    writeFileSync(path, JSON.stringify(config));
    return path;
  }

  #run(args: readonly string[], input: string): { status: number | null; stdout: string; stderr: string } {
    // A home of its own: kubectl caches what a server offers, by its address.
    const env = { ...process.env, KUBECONFIG: this.kubeconfig, HOME: this.#folder };
    return this.#within(() => spawnSync('kubectl', args, { input, env, encoding: 'utf8' }));
  }

  /** Runs kubectl as administrator. @returns its output. @throws Error with what it said. */
  kubectl(args: readonly string[], input = ''): string {
    const { status, stdout, stderr } = this.#run(args, input);
    if (status !== 0) throw new Error(`kubectl ${args.join(' ')}: ${stderr.trim()}`);
    return stdout;
  }

  async close(): Promise<void> {
    for (const child of this.#children.reverse()) {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      if (child.exitCode === null && child.kill('SIGKILL')) await ended;
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
