// What checks know of a cluster, whoever provides it: nodes, pods that run agnhost's netexec (or something that speaks
// like it), clients that dial from pods, from nodes and from outside, and Kubernetes objects.
import type { Family } from '../../native/ip.ts';

export type ProxyMode = 'iptables' | 'ipvs' | 'nftables';

/** Ports of netexec in pods. */
export const HTTP_PORT = 8080;
export const UDP_PORT = 8081;

export interface ApiObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly [field: string]: unknown;
  };
  readonly [field: string]: unknown;
}

/** A Service as the API server gives it back, as far as checks read it. */
export interface Service extends ApiObject {
  readonly spec: {
    readonly clusterIPs?: readonly string[];
    readonly healthCheckNodePort?: number;
    readonly ports: readonly { readonly name: string; readonly port: number; readonly nodePort?: number }[];
    readonly [field: string]: unknown;
  };
}

export interface ClusterNode {
  readonly name: string;
  /** Its InternalIPs, at most one of each family. */
  readonly ips: readonly string[];
}

export interface PodSpec {
  readonly name: string;
  readonly node: string;
  readonly labels: Readonly<Record<string, string>>;
  /** In the node's network, for clients. */
  readonly hostNetwork?: boolean;
  /** The pod passes HTTP requests on to this `http://host:port` and adds X-Forwarded-For (capability `forwarder`). */
  readonly forwardTo?: string;
}

export interface Pod {
  readonly name: string;
  readonly node: string;
  readonly ips: readonly string[];
}

/** A place to dial from. `node` is null outside of the cluster. */
export interface Client {
  readonly name: string;
  readonly kind: 'pod' | 'node' | 'outside';
  readonly node: string | null;
  /** Addresses that connections have when nobody changes them. */
  readonly ips: readonly string[];
}

export interface Dial {
  readonly protocol?: 'http' | 'udp';
  /** Address or name. */
  readonly host: string;
  readonly port: number;
  /** Path of the HTTP request, or text of the datagram; `hostname` unless given. */
  readonly request?: string;
  /** Connections, one after the other; 1 unless given. */
  readonly tries?: number;
}

/** As netexec's /dial answers: when the last try fails, answers before it may be missing. */
export interface DialResult {
  readonly responses: readonly string[];
  readonly errors: readonly string[];
}

/** What not every cluster can do. */
export type Capability =
  | 'two-nodes'
  | 'node-clients'
  | 'outside'
  | 'dns'
  | 'forwarder'
  | 'agent-dump'
  | 'agent-restart'
  | 'agent-upgrade'
  | 'mode-switch'
  | 'node-restart';

export interface Deployment {
  readonly name: string;
  readonly replicas: number;
  readonly labels: Readonly<Record<string, string>>;
}

export interface Cluster {
  readonly name: string;
  /** Of all objects and pods of the checks; theirs alone. */
  readonly namespace: string;
  /** Nodes that pods can run on. */
  readonly nodes: readonly ClusterNode[];
  /** How long a change may take until all nodes follow it. */
  readonly settleMs: number;
  /** How long a check may take at most. */
  readonly checkLimitMs: number;
  /** Why the cluster cannot do this, or null when it can. */
  missing(capability: Capability): string | null;
  /** Returns when all are ready. @throws Error naming the pod, with the reason */
  startPods(specs: readonly PodSpec[]): Promise<Pod[]>;
  /** Returns when they are gone; endpoints are terminating for a while. */
  stopPods(names: readonly string[]): Promise<void>;
  /** A machine outside that reaches Service addresses through the first node (capability `outside`). */
  outside(): Promise<Client>;
  /** @throws Error when the dialing itself cannot be done; failures to connect are in the result */
  dial(client: Client, dial: Dial): Promise<DialResult>;
  /** Creates or changes an object in `namespace`. */
  apply(object: ApiObject): Promise<ApiObject>;
  /** Sets `status.loadBalancer.ingress` of a Service. */
  setIngress(service: string, ips: readonly string[]): Promise<void>;
  remove(kind: 'Service', name: string): Promise<void>;
  /** Starts pods that a rollout replaces one by one; returns when they are ready. */
  startDeployment(deployment: Deployment): Promise<void>;
  /** Replaces all pods and waits for the end. */
  rollout(deployment: Deployment): Promise<void>;
  stopDeployment(deployment: Deployment): Promise<void>;
  /** What `agentctl dump` with these arguments prints on a node. */
  dump(node: string, args: readonly string[]): Promise<string>;
  /** Ends the agent on a node and waits for the next one to be in charge. */
  restartAgent(node: string): Promise<void>;
  /** Replaces the agents on all nodes by another version. */
  upgradeAgents(): Promise<void>;
  /** The mode in force, null when unknown. */
  readonly mode: ProxyMode | null;
  switchMode(mode: ProxyMode): Promise<void>;
  restartNode(node: string): Promise<void>;
  /** Writes logs and dumps into a folder. Never throws. */
  collect(folder: string): Promise<void>;
  /** Removes everything that was made. */
  close(): Promise<void>;
}

/** The address of a family, or undefined. */
export const ofFamily = (ips: readonly string[] | undefined, family: Family): string | undefined =>
  ips?.find((ip) => ip.includes(':') === (family === 'IPv6'));

/** Address and port as in a URL. */
export const hostPort = (host: string, port: number): string =>
  host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;

/** Path of a netexec that dials: GET it at the client. */
export function dialPath({ protocol = 'http', host, port, request = 'hostname', tries = 1 }: Dial): string {
  const query = new URLSearchParams({ host, port: String(port), request, protocol, tries: String(tries) });
  return `/dial?${query}`;
}

/** Reads what /dial answered. @throws Error with the text when that is no result */
export function dialResult(text: string): DialResult {
  try {
    const { responses = [], errors = [] } = JSON.parse(text) as Partial<DialResult>;
    return { responses, errors };
  } catch {
    throw new Error(`dial: ${text.trim() || 'no answer'}`);
  }
}
