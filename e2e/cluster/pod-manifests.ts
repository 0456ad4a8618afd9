// Pods and Deployments of the checks as API objects, such that a namespace with restricted pod security takes them (but for
// those in a node's network). Pure.
import type { Images } from '../images.ts';
import { type ApiObject, type Deployment, HTTP_PORT, type PodSpec, UDP_PORT } from './cluster.ts';

/** Of clients in a node's network, where 8080 is often taken. */
export const NODE_CLIENT_PORT = 28_080;
/** On everything the checks make. */
export const OWNER_LABELS = { 'app.kubernetes.io/managed-by': 'kubeplumb-e2e' };
/** How long a pod still serves after its end was told, so that all nodes get to know. */
const DRAIN_SECONDS = 10;

export interface PodManifestOptions {
  readonly namespace: string;
  readonly images: Images;
}

/** Where a netexec listens. */
export const httpPortOf = (hostNetwork: boolean): number => (hostNetwork ? NODE_CLIENT_PORT : HTTP_PORT);

const CONTAINER_SECURITY = {
  allowPrivilegeEscalation: false,
  capabilities: { drop: ['ALL'] },
  runAsNonRoot: true,
  runAsUser: 65_534,
  seccompProfile: { type: 'RuntimeDefault' },
};

const resources = { requests: { cpu: '5m', memory: '16Mi' }, limits: { memory: '256Mi' } };

function netexec(image: string, hostNetwork: boolean): Record<string, unknown> {
  const port = httpPortOf(hostNetwork);
  return {
    name: 'netexec',
    image,
    imagePullPolicy: 'IfNotPresent',
    args: ['netexec', `--http-port=${port}`, `--udp-port=${hostNetwork ? -1 : UDP_PORT}`],
    readinessProbe: { httpGet: { path: '/hostname', port }, periodSeconds: 2, timeoutSeconds: 5 },
    securityContext: CONTAINER_SECURITY,
    resources,
  };
}

/** nginx that passes everything on. All it writes is below /tmp. */
export function nginxConfig(target: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((of) => `${of}_temp_path /tmp/${of};`);
  return `pid /tmp/nginx.pid;
error_log /dev/stderr;
events {}
http {
  ${temporary.join('\n  ')}
  access_log /dev/stdout;
  server {
    listen ${HTTP_PORT};
    listen [::]:${HTTP_PORT};
    location / {
      proxy_pass ${target};
      proxy_set_header X-Forwarded-For $remote_addr;
    }
  }
}
`;
}

function nginx(image: string): Record<string, unknown> {
  return {
    name: 'nginx',
    image,
    imagePullPolicy: 'IfNotPresent',
    command: ['nginx', '-c', '/config/nginx.conf', '-g', 'daemon off;'],
    readinessProbe: { tcpSocket: { port: HTTP_PORT }, periodSeconds: 2 },
    securityContext: CONTAINER_SECURITY,
    resources,
    volumeMounts: [{ name: 'config', mountPath: '/config' }],
  };
}

const POD_DEFAULTS = {
  automountServiceAccountToken: false,
  enableServiceLinks: false,
  terminationGracePeriodSeconds: 1,
};

/** The pod, after the ConfigMap it reads if there is one. */
export function podObjects(spec: PodSpec, { namespace, images }: PodManifestOptions): ApiObject[] {
  const { name, node, labels, hostNetwork = false, forwardTo } = spec;
  const metadata = { name, namespace, labels: { ...labels, ...OWNER_LABELS } };
  const forwards = forwardTo !== undefined && images.ingress !== null;
  const pod: ApiObject = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata,
    spec: {
      ...POD_DEFAULTS,
      nodeName: node,
      hostNetwork,
      restartPolicy: 'Always',
      containers: [forwards ? nginx(images.ingress!) : netexec(images.agnhost, hostNetwork)],
      ...(forwards && { volumes: [{ name: 'config', configMap: { name } }] }),
    },
  };
  if (!forwards) return [pod];
  const data = { 'nginx.conf': nginxConfig(forwardTo) };
  return [{ apiVersion: 'v1', kind: 'ConfigMap', metadata, data }, pod];
}

/** A Deployment whose updates are graceful: new pods first, old ones serve until nodes had time to hear of it. */
export function deploymentObject(
  { name, replicas, labels }: Deployment,
  { namespace, images }: PodManifestOptions,
): ApiObject {
  const all = { ...labels, ...OWNER_LABELS };
  const container = {
    ...netexec(images.agnhost, false),
    lifecycle: { preStop: { sleep: { seconds: DRAIN_SECONDS } } },
  };
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name, namespace, labels: all },
    spec: {
      replicas,
      selector: { matchLabels: labels },
      strategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } },
      template: {
        metadata: { labels: all },
        spec: { ...POD_DEFAULTS, terminationGracePeriodSeconds: DRAIN_SECONDS + 5, containers: [container] },
      },
    },
  };
}
