// The manifests are what they claim: one file equal to the base, overlays that build and change only what they say.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { parseAllDocuments } from 'yaml';
import { loadConfig } from '../../agent/config/load.ts';
import { VERSION } from '../../agent/version.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const OVERLAYS = readdirSync(`${ROOT}/deploy/overlays`);
const noKubectl = spawnSync('kubectl', ['version', '--client']).status === 0 ? false : 'no program kubectl';

interface Container {
  readonly name: string;
  readonly image: string;
  readonly args: string[];
  readonly securityContext: Record<string, unknown> & { capabilities?: { add: string[]; drop: string[] } };
  readonly volumeMounts: { readonly name: string; readonly mountPath: string }[];
}

// biome-ignore lint/suspicious/noExplicitAny: manifests of several kinds
type Manifest = any;

const parse = (text: string): Manifest[] => parseAllDocuments(text).map((document) => document.toJS());
const single = parse(readFileSync(`${ROOT}/daemonset.yaml`, 'utf8'));
const find = (objects: Manifest[], kind: string): Manifest => objects.find((object) => object?.kind === kind);
const sorted = (objects: Manifest[]): Manifest[] => objects.toSorted((a, b) => a.kind.localeCompare(b.kind));

function build(path: string): Manifest[] {
  const { status, stdout, stderr } = spawnSync('kubectl', ['kustomize', `${ROOT}/deploy/${path}`], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(stderr);
  return parse(stdout);
}

t.test('daemonset.yaml is put together from deploy/base', async (t) => {
  const { status, stderr } = spawnSync(process.execPath, [`${ROOT}/scripts/manifests.mjs`, '--check'], {
    encoding: 'utf8',
  });
  t.equal(status, 0, stderr);
});

t.test('kustomize builds the same from the base', { skip: noKubectl }, async (t) => {
  t.strictSame(sorted(build('base')), sorted(single));
});

t.test('the agent has two capabilities, and its container can write nowhere but to its own folder', async (t) => {
  const { spec } = find(single, 'DaemonSet').spec.template;
  const agent: Container = spec.containers[0];
  t.strictSame(agent.securityContext, {
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'], add: ['NET_ADMIN', 'NET_RAW'] },
  });
  t.equal(spec.securityContext.seccompProfile.type, 'RuntimeDefault');
  t.equal(spec.initContainers[0].securityContext.privileged, true, 'only the container that ends is privileged');
  t.ok(spec.initContainers[0].args.includes('--init-only'));
  t.strictSame(
    spec.containers.concat(spec.initContainers).map(({ image }: Container) => image),
    [`kubeplumb:${VERSION}`, `kubeplumb:${VERSION}`],
  );
  t.match(spec, {
    hostNetwork: true,
    priorityClassName: 'system-node-critical',
    tolerations: [{ operator: 'Exists' }],
  });
});

t.test('each container’s command line and configuration are accepted', async (t) => {
  const { 'config.conf': text } = find(single, 'ConfigMap').data;
  const { spec } = find(single, 'DaemonSet').spec.template;
  for (const { name, args } of [...spec.initContainers, ...spec.containers] as Container[]) {
    const argv = args.map((arg) => arg.replace('$(NODE_NAME)', 'node-a'));
    const loaded = loadConfig({ argv, readFile: () => text });
    t.match(
      loaded,
      { action: 'run', warnings: { length: 0 }, config: { mode: 'nftables', hostnameOverride: 'node-a' } },
      name,
    );
  }
});

t.test('the role has no right that is not listed in docs/deployment.md', async (t) => {
  const { rules } = find(single, 'ClusterRole');
  const table = readFileSync(`${ROOT}/docs/deployment.md`, 'utf8');
  for (const { apiGroups, resources, verbs } of rules) {
    const row = `| ${apiGroups[0] === '' ? 'core' : `\`${apiGroups[0]}\``} | \`${resources[0]}\` | ${verbs.join(', ')} |`;
    t.ok(table.includes(row), row);
  }
  t.equal(rules.length, table.match(/^\| (core|`\S+`) \| `[a-z]+` \| [a-z, ]+ \|/gm)?.length);
});

for (const name of OVERLAYS) {
  t.test(`overlay ${name}`, { skip: noKubectl }, async (t) => {
    const objects = build(`overlays/${name}`);
    const { spec } = find(objects, 'DaemonSet').spec.template;
    const agent: Container = spec.containers[0];
    t.strictSame(find(objects, 'ClusterRole'), find(single, 'ClusterRole'), 'the same rights');
    t.strictSame(agent.securityContext, find(single, 'DaemonSet').spec.template.spec.containers[0].securityContext);
    const mounted = spec.volumes.find(({ name }: { name: string }) => name === 'config').configMap.name;
    if (name === 'kubeadm') {
      t.equal(mounted, 'kube-proxy');
      t.equal(find(objects, 'ConfigMap'), undefined);
      t.ok(agent.volumeMounts.some(({ mountPath }) => mountPath === '/var/lib/kube-proxy'));
      return;
    }
    t.equal(mounted, 'kubeplumb');
    const { 'config.conf': text } = find(objects, 'ConfigMap').data;
    t.match(loadConfig({ argv: ['--config=x'], readFile: () => text }), {
      warnings: { length: 0 },
      config: { mode: name },
    });
  });
}
