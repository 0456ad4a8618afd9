// Through which HTTP proxy an API server is reached: the kubeconfig's, or that of the environment, as client-go decides it.
import { BlockList, isIP } from 'node:net';

type Environment = Readonly<Record<string, string | undefined>>;

/** URL of the proxy, or null. NO_PROXY may hold host names, domains, addresses, CIDRs, ports and `*`. */
export function proxyUrlFor(server: URL, fromKubeconfig: string | undefined, env: Environment): string | null {
  if (fromKubeconfig) return fromKubeconfig;
  const name = server.protocol === 'https:' ? 'HTTPS_PROXY' : 'HTTP_PROXY';
  const proxy = env[name] || env[name.toLowerCase()];
  if (!proxy) return null;
  const host = server.hostname.replace(/^\[|\]$/g, '').toLowerCase();
  const port = server.port || (server.protocol === 'https:' ? '443' : '80');
  if (host === 'localhost' || inCidr(host, '127.0.0.0/8') || host === '::1') return null;
  const excluded = (env.NO_PROXY || env.no_proxy || '').split(/[,\s]+/).filter((entry) => entry !== '');
  if (excluded.some((entry) => excludes(entry.toLowerCase(), host, port))) return null;
  return /^[a-z0-9]+:\/\//i.test(proxy) ? proxy : `http://${proxy}`;
}

function excludes(entry: string, host: string, port: string): boolean {
  if (entry === '*') return true;
  if (entry.includes('/')) return inCidr(host, entry);
  const [, name = '', onlyPort = ''] = /^(\[.*\]|[^:]*):(\d+)$/.exec(entry) ?? ['', entry];
  if (onlyPort !== '' && onlyPort !== port) return false;
  const domain = name.replace(/^\[|\]$/g, '').replace(/^\*?\./, '.');
  return domain.startsWith('.') ? host.endsWith(domain) : host === domain || host.endsWith(`.${domain}`);
}

function inCidr(host: string, cidr: string): boolean {
  const family = isIP(host);
  const [network = '', prefix = ''] = cidr.split('/');
  if (family === 0 || isIP(network) !== family || !/^\d+$/.test(prefix)) return false;
  if (Number(prefix) > (family === 4 ? 32 : 128)) return false;
  const type = family === 4 ? 'ipv4' : 'ipv6';
  const list = new BlockList();
  list.addSubnet(network, Number(prefix), type);
  return list.check(host, type);
}
