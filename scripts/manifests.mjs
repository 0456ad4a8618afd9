// `npm run manifests`: puts daemonset.yaml together from the files of deploy/base, in the order of its kustomization, so
// that `kubectl apply -f daemonset.yaml` and `kubectl apply -k deploy/base` are the same. --check only compares.
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const BASE = join(ROOT, 'deploy/base');
const HEAD = `# Everything that runs kubeplumb in a cluster: kubectl apply -f daemonset.yaml
# Before that: look at the ConfigMap (apiservers, clusterCIDR, mode) and the image's name. docs/deployment.md explains it,
# docs/migration.md the way here from kube-proxy. Made by \`npm run manifests\` from deploy/base.
`;

/** The text of daemonset.yaml. */
export function singleFile(base = BASE) {
  const list = readFileSync(join(base, 'kustomization.yaml'), 'utf8').split('resources:')[1];
  const names = [...list.matchAll(/^ {2}- (\S+)$/gm)].map(([, name]) => name);
  return HEAD + names.map((name) => `---\n${readFileSync(join(base, name), 'utf8')}`).join('');
}

if (process.argv[1] && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const file = join(ROOT, 'daemonset.yaml');
  if (!process.argv.includes('--check')) writeFileSync(file, singleFile());
  else if (readFileSync(file, 'utf8') !== singleFile()) {
    console.error('daemonset.yaml differs from deploy/base: npm run manifests');
    process.exitCode = 1;
  }
}
