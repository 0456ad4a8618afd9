// Settings of the kernel that the configuration asks for (P-50…P-55, I-60): connection tracking and the OOM score. Each is
// read, and written only if it has another value, so that an agent without the right to write can run on a node that is
// prepared (P-6).
import { availableParallelism } from 'node:os';
import { FILES, readSysctl, type SysctlFiles, writeSysctl } from '../native/sysctl.ts';
import type { Config } from './config/types.ts';
import { describeError, type Log } from './log.ts';

const HASH_SIZE = '/sys/module/nf_conntrack/parameters/hashsize';
const OOM_SCORE_ADJ = '/proc/self/oom_score_adj';
const ONLINE_CPUS = '/sys/devices/system/cpu/online';
const CONNTRACK_MAX_LIMIT = 1024 * 1024;

/** P-51: what nf_conntrack_max is to be; null: as it is. */
export function conntrackMax(options: { maxPerCore: number; min: number; cpus: number }): number | null {
  const { maxPerCore, min, cpus } = options;
  if (maxPerCore <= 0) return null;
  const scaled = maxPerCore * cpus;
  return scaled > CONNTRACK_MAX_LIMIT ? CONNTRACK_MAX_LIMIT : Math.max(scaled, min);
}

/** P-52: what the number of hash buckets is to be for this nf_conntrack_max; null: as it is. */
export function conntrackHashSize(max: number | null, current: number): number | null {
  const wanted = max === null ? 0 : Math.floor(max / 4);
  return current < wanted ? wanted : null;
}

/** CPUs of the host, also where this process may use fewer (P-51). */
export function hostCpus(files: SysctlFiles = FILES): number {
  let cpus = 0;
  try {
    for (const range of files.read(ONLINE_CPUS).trim().split(',')) {
      const [first = Number.NaN, last = first] = range.split('-').map((cpu) => Number.parseInt(cpu, 10));
      cpus += last - first + 1;
    }
  } catch {
    return availableParallelism();
  }
  return cpus > 0 ? cpus : availableParallelism();
}

/** Sysctls below net/netfilter (P-53, I-60). */
function conntrackSysctls(
  conntrack: Config['conntrack'],
  max: number | null,
): [field: string, name: string, value: number][] {
  const seconds = (ms: number): number => Math.floor(ms / 1000);
  const all: [string, string, number][] = [
    ['conntrack.maxPerCore and conntrack.min', 'nf_conntrack_max', max ?? 0],
    [
      'conntrack.tcpEstablishedTimeout',
      'nf_conntrack_tcp_timeout_established',
      seconds(conntrack.tcpEstablishedTimeoutMs),
    ],
    ['conntrack.tcpCloseWaitTimeout', 'nf_conntrack_tcp_timeout_close_wait', seconds(conntrack.tcpCloseWaitTimeoutMs)],
    ['conntrack.tcpBeLiberal', 'nf_conntrack_tcp_be_liberal', conntrack.tcpBeLiberal ? 1 : 0],
    ['conntrack.udpTimeout', 'nf_conntrack_udp_timeout', seconds(conntrack.udpTimeoutMs)],
    ['conntrack.udpStreamTimeout', 'nf_conntrack_udp_timeout_stream', seconds(conntrack.udpStreamTimeoutMs)],
  ];
  return all.filter(([, , value]) => value > 0);
}

export interface KernelSettingsOptions {
  readonly conntrack: Config['conntrack'];
  readonly log: Log;
  readonly files?: SysctlFiles;
  /** Number of CPUs; the host's unless given. */
  readonly cpus?: number;
}

/** Sets connection tracking (P-50…P-53). @throws Error that names the setting, its field and what can be done. */
export function setConntrack({ conntrack, log, files = FILES, cpus = hostCpus(files) }: KernelSettingsOptions): void {
  const max = conntrackMax({ ...conntrack, cpus });
  for (const [field, name, value] of conntrackSysctls(conntrack, max)) {
    const path = `net/netfilter/${name}`;
    let found: string | null = null;
    try {
      found = readSysctl(path, files);
      if (Number(found) === value) continue;
      writeSysctl(path, String(value), files);
    } catch (cause) {
      throw refused({ what: path.replaceAll('/', '.'), value, found, field, cause });
    }
    log.info('set a kernel setting', { name: path.replaceAll('/', '.'), from: found, to: String(value) });
  }
  if (max !== null) setHashSize(max, files, log);
}

function setHashSize(max: number, files: SysctlFiles, log: Log): void {
  let found: string | null = null;
  let wanted: number | null = null;
  try {
    found = files.read(HASH_SIZE).trim();
    wanted = conntrackHashSize(max, Number(found));
    if (wanted === null) return;
    files.write(HASH_SIZE, String(wanted));
  } catch (cause) {
    throw refused({
      what: HASH_SIZE,
      value: wanted ?? Math.floor(max / 4),
      found,
      field: 'conntrack.maxPerCore',
      cause,
    });
  }
  log.info('set a kernel setting', { name: HASH_SIZE, from: found, to: String(wanted) });
}

interface Refused {
  readonly what: string;
  readonly value: number;
  /** null when it could not even be read. */
  readonly found: string | null;
  readonly field: string;
  readonly cause: unknown;
}

function refused({ what, value, found, field, cause }: Refused): Error {
  const verb = found === null ? `cannot read ${what}` : `cannot set ${what} to ${value} (it is ${found})`;
  const help =
    found === null
      ? 'is the kernel module nf_conntrack loaded?'
      : 'run kubeplumb --init-only with this configuration in a privileged container first, or set it on the host';
  const off = `${found === null ? ' Otherwise' : ', or'} leave it alone with ${field.split(' ')[0]}: ${field === 'conntrack.tcpBeLiberal' ? 'false' : '0'}`;
  return new Error(`${verb}, which ${field} asks for: ${reasonOf(cause)}; ${help}${off}`);
}

/** The file system's own words, which are part of the message: as a cause they would be told twice. */
function reasonOf(error: unknown): string {
  const inner = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return describeError(inner);
}

/** Sets this process's OOM score (P-55); a failure is only logged. */
export function setOomScore(score: number, { log, files = FILES }: { log: Log; files?: SysctlFiles }): void {
  try {
    if (Number(files.read(OOM_SCORE_ADJ)) === score) return;
    files.write(OOM_SCORE_ADJ, String(score));
  } catch (err) {
    log.warn('cannot set the OOM score; the kernel may end this process when memory is short', { score, err });
  }
}
