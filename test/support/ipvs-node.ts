// IPVS on a test node: whether it can be had, how the agent is told to use it, and what the tools show of it.
import { spawnSync } from 'node:child_process';
import { IpvsConnection } from '../../native/ipvs/connection.ts';
import { inUserNamespace, namespacesMissing } from './namespaces.ts';
import type { Network } from './network.ts';
import type { AgentOptions } from './running-agent.ts';

/** Why IPVS cannot be used here, or false. Await it as `namespacesMissing`, which it calls. */
export async function ipvsMissing(): Promise<string | false> {
  const missing = await namespacesMissing();
  if (missing !== null) return missing;
  if (inUserNamespace()) return 'IPVS wants root outside of a user namespace';
  const connection = IpvsConnection.open();
  if (connection === null) return 'this kernel has no IPVS';
  connection.close();
  return spawnSync('ipvsadm', ['--version']).error !== undefined && 'no program "ipvsadm"';
}

/** Options of an agent in ipvs mode. */
export const inIpvs = (...flags: readonly string[]): Required<Pick<AgentOptions, 'mode' | 'flags'>> => ({
  mode: 'ipvs',
  flags,
});

/** A real server as `ipvsadm -Ln` shows it. */
export interface ShownServer {
  /** `ip:port`. */
  readonly address: string;
  readonly weight: number;
  readonly active: number;
  readonly inactive: number;
}

/** What tools of the node say of IPVS. */
export class IpvsNode {
  readonly #net: Network;

  constructor(net: Network) {
    this.#net = net;
  }

  ipvsadm(...argv: readonly string[]): string {
    return this.#net.exec('node', ['ipvsadm', ...argv]);
  }

  /** Lines of `ipvsadm -Ln`, blanks made single. */
  listing(): string[] {
    return this.ipvsadm('-Ln')
      .split('\n')
      .map((line) => line.trim().replaceAll(/\s+/g, ' '));
  }

  /** The line of a virtual server, such as `TCP 10.96.0.1:80`, and those of its real servers. */
  shown(server: string): string[] {
    const lines = this.listing();
    const at = lines.findIndex((line) => line.startsWith(`${server} `));
    if (at < 0) return [];
    const end = lines.findIndex((line, i) => i > at && !line.startsWith('-> '));
    return lines.slice(at, end < 0 ? undefined : end).filter((line) => line !== '');
  }

  /** Real servers of a virtual server, sorted by address. */
  realServers(server: string): ShownServer[] {
    const real = this.shown(server).slice(1);
    const out = real.map((line) => {
      const [, address = '', , weight, active, inactive] = line.split(' ');
      return { address, weight: Number(weight), active: Number(active), inactive: Number(inactive) };
    });
    return out.sort((a, b) => (a.address < b.address ? -1 : 1));
  }

  /** How many virtual servers there are. */
  get count(): number {
    return this.listing().filter((line) => /^(TCP|UDP|SCTP) /.test(line)).length;
  }

  /** Addresses on the dummy interface, null when there is no such interface. */
  addresses(): string[] | null {
    const { status, stdout } = this.#net.tryExec('node', ['ip', '-br', 'addr', 'show', 'kube-ipvs0']);
    if (status !== 0) return null;
    const words = stdout.trim().split(/\s+/).slice(2);
    return words.map((word) => word.split('/')[0]!).sort();
  }

  /** What is left of ipvs mode, in words; empty when nothing is. */
  leftovers(): string[] {
    const tables = this.#net.exec('node', ['nft', 'list', 'tables']).split('\n');
    return [
      ...(this.count > 0 ? [`${this.count} virtual servers`] : []),
      ...(this.addresses() === null ? [] : ['kube-ipvs0']),
      ...tables.filter((line) => line.includes('kubeplumb-ipvs')),
    ];
  }
}
