// TLS settings and headers for one request. Files are read at each use, because tokens and certificates rotate.
import { readFileSync } from 'node:fs';
import type { RequestOptions } from 'node:https';
import { ExecAuth } from '@kubernetes/client-node/dist/exec_auth.js';
import type { Account, ServerAccess } from './kube-config.ts';

export interface TlsSettings {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly servername?: string;
  readonly rejectUnauthorized?: boolean;
}

export interface Credentials {
  readonly tls: TlsSettings;
  readonly headers: Readonly<Record<string, string | string[]>>;
}

interface PluginAnswer {
  readonly cert?: string;
  readonly key?: string;
  readonly headers?: Record<string, string>;
}

/** Credentials cannot be had on this node; no server was asked. The message names kubeconfig and field. */
export class CredentialsError extends Error {
  override readonly name = 'CredentialsError';
}

/** Reads and caches nothing but the answer of an exec plug-in, which has its own expiry. */
export class CredentialReader {
  readonly #access: ServerAccess;
  #exec = new ExecAuth();
  #running: Promise<PluginAnswer> | null = null;

  constructor(access: ServerAccess) {
    this.#access = access;
  }

  /** @throws CredentialsError when a file cannot be read or the plug-in fails. */
  async read(): Promise<Credentials> {
    const { cluster, account } = this.#access;
    const server = `clusters[${cluster.name}].cluster`;
    const user = `users[${account.name}].user`;
    const plugin: PluginAnswer = account.exec ? await this.#runPlugin(account) : {};
    const ca = this.#text(`${server}.certificate-authority`, cluster.caFile, cluster.caData);
    const cert = plugin.cert ?? this.#text(`${user}.client-certificate`, account.certFile, account.certData);
    const key = plugin.key ?? this.#text(`${user}.client-key`, account.keyFile, account.keyData);
    const tls: TlsSettings = {
      ...(ca !== undefined && { ca }),
      ...(cert !== undefined && { cert }),
      ...(key !== undefined && { key }),
      ...(cluster.tlsServerName && { servername: cluster.tlsServerName }),
      ...(cluster.skipTLSVerify && { rejectUnauthorized: false }),
    };
    return { tls, headers: this.#headers(plugin.headers ?? {}) };
  }

  /** To be called after the server refused the credentials: the plug-in is asked again. */
  forget(): void {
    this.#exec = new ExecAuth();
  }

  #headers(fromPlugin: Record<string, string>): Record<string, string | string[]> {
    const { account } = this.#access;
    const token =
      this.#text(`users[${account.name}].user.tokenFile`, account.tokenFile)?.trim() || account.token?.trim();
    const basic = Buffer.from(`${account.username}:${account.password}`).toString('base64');
    return {
      ...(account.username && { authorization: `Basic ${basic}` }),
      ...fromPlugin,
      ...(token && { authorization: `Bearer ${token}` }),
      ...(account.impersonateUser && { 'impersonate-user': account.impersonateUser }),
      ...(account.impersonateGroups && { 'impersonate-group': [...account.impersonateGroups] }),
    };
  }

  #text(field: string, file?: string, data?: string): string | undefined {
    // Inline data wins over a file, as in client-go.
    if (data) return Buffer.from(data, 'base64').toString('utf8');
    if (!file) return undefined;
    try {
      return readFileSync(file, 'utf8');
    } catch (cause) {
      throw new CredentialsError(`${this.#access.origin}: ${field}: cannot be read`, { cause });
    }
  }

  /** Requests that start together share one run of the plug-in. */
  #runPlugin(account: Account): Promise<PluginAnswer> {
    this.#running ??= askPlugin(this.#exec, account)
      .catch((cause: unknown) => {
        throw new CredentialsError(`${this.#access.origin}: users[${account.name}].user.exec: plug-in failed`, {
          cause,
        });
      })
      .finally(() => {
        this.#running = null;
      });
    return this.#running;
  }
}

async function askPlugin(auth: ExecAuth, account: Account): Promise<PluginAnswer> {
  const { exec } = account;
  const info = { apiVersion: exec.apiVersion, kind: 'ExecCredential', spec: { interactive: false } };
  const env = [...(exec.env ?? []), { name: 'KUBERNETES_EXEC_INFO', value: JSON.stringify(info) }];
  const answer: RequestOptions = {};
  await auth.applyAuthentication({ ...account, exec: { ...exec, env } }, answer);
  const { authorization } = lowerCased(answer.headers);
  return {
    ...(typeof answer.cert === 'string' && { cert: answer.cert }),
    ...(typeof answer.key === 'string' && { key: answer.key }),
    headers: typeof authorization === 'string' ? { authorization } : {},
  };
}

function lowerCased(headers: RequestOptions['headers']): Record<string, unknown> {
  return Object.fromEntries(Object.entries(headers ?? {}).map(([name, value]) => [name.toLowerCase(), value]));
}
