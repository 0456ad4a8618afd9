// Kubeconfig files, in-cluster settings and their errors.
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { CredentialReader } from '../../agent/source/credentials.ts';
import { KubeConfigError, loadAccess } from '../../agent/source/kube-config.ts';

const user = (fields: object) => ({ users: [{ name: 'u', user: fields }] });
const config = (fields: object = {}) => ({
  'current-context': 'c',
  contexts: [{ name: 'c', context: { cluster: 'k', user: 'u' } }],
  clusters: [{ name: 'k', cluster: { server: 'https://127.0.0.1:6443/' } }],
  users: [{ name: 'u', user: {} }],
  ...fields,
});

const read = (t: Test, fields: object, files: Record<string, string> = {}) => {
  const dir = t.testdir({ config: JSON.stringify(config(fields)), ...files });
  const access = loadAccess({ kubeconfig: join(dir, 'config') });
  return { dir, access, reader: new CredentialReader(access) };
};

t.test('server and override', (t) => {
  const { dir, access } = read(t, {});
  t.equal(access.cluster.server, 'https://127.0.0.1:6443');
  const kubeconfig = join(dir, 'config');
  t.equal(loadAccess({ kubeconfig, server: 'http://[::1]:8080' }).cluster.server, 'http://[::1]:8080');
  t.equal(loadAccess({ server: '127.0.0.1:8080' }).cluster.server, 'http://127.0.0.1:8080');
  t.throws(() => loadAccess({ server: 'ftp://x' }), { name: 'KubeConfigError', message: /--master: not an http/ });
  t.end();
});

t.test('in-cluster', async (t) => {
  const serviceAccountDir = t.testdir({ 'ca.crt': 'CA', token: 'one\n' });
  const env = { KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '443' };
  const access = loadAccess({ env, serviceAccountDir });
  t.equal(access.cluster.server, 'https://[fd00::1]');
  const reader = new CredentialReader(access);
  t.same(await reader.read(), { tls: { ca: 'CA' }, headers: { authorization: 'Bearer one' } });
  writeFileSync(join(serviceAccountDir, 'token'), 'two\n');
  t.match(await reader.read(), { headers: { authorization: 'Bearer two' } }, 'a rotated token is seen at once');
  t.throws(() => loadAccess({ env: {} }), { message: /KUBERNETES_SERVICE_HOST/ });
});

t.test('tokenFile is relative to the kubeconfig and wins over token', async (t) => {
  const { reader } = read(t, user({ tokenFile: 'token', token: 'old' }), { token: 'fresh' });
  t.same((await reader.read()).headers, { authorization: 'Bearer fresh' });
});

t.test('certificates as data and as files', async (t) => {
  const data = (text: string) => Buffer.from(text).toString('base64');
  const { reader } = read(
    t,
    {
      clusters: [
        {
          name: 'k',
          cluster: { server: 'https://x', 'certificate-authority-data': data('CA'), 'tls-server-name': 'kubernetes' },
        },
      ],
      ...user({ 'client-certificate': 'cert.pem', 'client-key': 'key.pem' }),
    },
    { 'cert.pem': 'CERT', 'key.pem': 'KEY' },
  );
  t.same((await reader.read()).tls, { ca: 'CA', cert: 'CERT', key: 'KEY', servername: 'kubernetes' });
});

t.test('basic authentication and impersonation', async (t) => {
  const { reader } = read(t, user({ username: 'a', password: 'b', as: 'system:kube-proxy', 'as-groups': ['g', 'h'] }));
  t.same((await reader.read()).headers, {
    authorization: 'Basic YTpi',
    'impersonate-user': 'system:kube-proxy',
    'impersonate-group': ['g', 'h'],
  });
});

t.test('exec plug-in: run once for requests that start together, again when its answer was refused', async (t) => {
  const script = `#!/bin/sh
n=$(cat "$COUNT" 2>/dev/null || echo 0); n=$((n+1)); echo $n > "$COUNT"
case "$KUBERNETES_EXEC_INFO" in *client.authentication.k8s.io/v1*) ;; *) exit 1;; esac
echo '{"kind":"ExecCredential","status":{"token":"t'$n'","clientCertificateData":"C","clientKeyData":"K"}}'
`;
  const dir = t.testdir({ plugin: script });
  chmodSync(join(dir, 'plugin'), 0o755);
  const exec = {
    apiVersion: 'client.authentication.k8s.io/v1',
    command: './plugin',
    env: [{ name: 'COUNT', value: join(dir, 'count') }],
  };
  writeFileSync(join(dir, 'config'), JSON.stringify(config(user({ exec }))));
  const reader = new CredentialReader(loadAccess({ kubeconfig: join(dir, 'config') }));
  const [first, second] = await Promise.all([reader.read(), reader.read()]);
  t.same(first, { tls: { cert: 'C', key: 'K' }, headers: { authorization: 'Bearer t1' } });
  t.same(second, first);
  t.same((await reader.read()).headers, { authorization: 'Bearer t1' });
  reader.forget();
  t.same((await reader.read()).headers, { authorization: 'Bearer t2' });
});

t.test('a plug-in that fails is named', async (t) => {
  const { reader } = read(t, user({ exec: { command: '/nonexistent/plugin' } }));
  await t.rejects(reader.read(), { message: /kubeconfig .*: users\[u\]\.user\.exec: plug-in failed/ });
});

t.test('a missing file is named with its field, at the time of use', async (t) => {
  const { reader } = read(t, user({ tokenFile: 'gone' }));
  await t.rejects(reader.read(), { message: /kubeconfig .*: users\[u\]\.user\.tokenFile: cannot be read/ });
});

t.test('errors name file and field', (t) => {
  for (const [fields, text] of [
    [{ 'current-context': undefined }, 'current-context: missing'],
    [{ 'current-context': 'x' }, 'current-context: there is no context "x"'],
    [
      { contexts: [{ name: 'c', context: { cluster: 'z', user: 'u' } }] },
      'contexts[c].context.cluster: there is no cluster "z"',
    ],
    [
      { contexts: [{ name: 'c', context: { cluster: 'k', user: 'z' } }] },
      'contexts[c].context.user: there is no user "z"',
    ],
    [{ contexts: 5 }, 'contexts: must be a list'],
    [{ clusters: [{ name: 'k', cluster: {} }] }, 'clusters[0].cluster.server is missing'],
    [{ clusters: [{ name: 'k', cluster: { server: 5 } }] }, 'clusters: '],
    [
      { clusters: [{ name: 'k', cluster: { server: 'https://' } }] },
      'clusters[k].cluster.server: not an http or https URL',
    ],
    [{ users: [null] }, 'users: '],
    [user({ 'auth-provider': { name: 'oidc' } }), 'users[u].user.auth-provider: not supported'],
  ] as const) {
    const file = join(t.testdir({ config: JSON.stringify(config(fields)) }), 'config');
    const thrown = outcome(() => loadAccess({ kubeconfig: file }));
    t.type(thrown, KubeConfigError);
    t.ok(String(thrown).startsWith(`KubeConfigError: kubeconfig ${file}: ${text}`), String(thrown));
  }
  t.throws(() => loadAccess({ kubeconfig: '/nonexistent' }), { message: 'kubeconfig /nonexistent: cannot be read' });
  const broken = join(t.testdir({ config: 'a: [1' }), 'config');
  t.throws(() => loadAccess({ kubeconfig: broken }), { message: /kubeconfig .*line 1/ });
  t.end();
});

function outcome(call: () => unknown): unknown {
  try {
    return call();
  } catch (err) {
    return err;
  }
}
