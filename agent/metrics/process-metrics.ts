// `process_*` as Prometheus' clients export them (P-82), read from /proc when scraped, and a few figures of Node's.
import { readdirSync, readFileSync } from 'node:fs';
import type { Registry } from 'prom-client';
import { type ComputedOptions, computedCounter, computedGauge } from './computed.ts';

export interface ProcessMetricsOptions {
  readonly registry: Registry;
  /** Content of a file of /proc; throws when it cannot be read. */
  readonly read?: (path: string) => string;
  /** Number of entries of a folder. */
  readonly count?: (path: string) => number;
  /** When the process began, seconds since the epoch. */
  readonly startedSeconds?: number;
}

/** What the kernel says of a running process for ever. */
const UNLIMITED = 2 ** 64;

export function registerProcessMetrics(options: ProcessMetricsOptions): void {
  const { registry, read = (path) => readFileSync(path, 'utf8'), count = (path) => readdirSync(path).length } = options;
  const startedSeconds = options.startedSeconds ?? performance.timeOrigin / 1000;
  const own = (from: () => number | null) => () => {
    try {
      return from();
    } catch {
      return null; // such as a /proc of which parts are hidden
    }
  };
  const gauge = (name: string, help: string, from: () => number | null): void =>
    computedGauge({ registry, name, help, read: own(from) });
  const counter = (name: string, help: string, from: () => number | null): void =>
    computedCounter({ registry, name, help, read: own(from) });
  const limit = (name: string): number | null => {
    const value = new RegExp(`^${name}\\s+(\\S+)`, 'm').exec(read('/proc/self/limits'))?.[1];
    return value === 'unlimited' ? UNLIMITED : value === undefined ? null : Number(value);
  };
  const status = (name: string): number | null => {
    const kilobytes = new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(read('/proc/self/status'))?.[1];
    return kilobytes === undefined ? null : Number(kilobytes) * 1024;
  };
  const octets = (name: string): number | null => {
    const lines = read('/proc/self/net/netstat')
      .split('\n')
      .filter((line) => line.startsWith('IpExt:'));
    const [names = [], values = []] = lines.map((line) => line.split(' '));
    const value = values[names.indexOf(name)];
    return value === undefined ? null : Number(value);
  };
  counter('process_cpu_seconds_total', 'Processor time used, user and system, in seconds.', () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  });
  gauge('process_open_fds', 'Open file descriptors.', () => count('/proc/self/fd'));
  gauge('process_max_fds', 'Most file descriptors that may be open.', () => limit('Max open files'));
  gauge('process_resident_memory_bytes', 'Resident memory in bytes.', () => status('VmRSS'));
  gauge('process_virtual_memory_bytes', 'Virtual memory in bytes.', () => status('VmSize'));
  gauge('process_virtual_memory_max_bytes', 'Most virtual memory there may be, in bytes.', () =>
    limit('Max address space'),
  );
  gauge('process_start_time_seconds', 'When the process began, in seconds since the epoch.', () => startedSeconds);
  counter('process_network_receive_bytes_total', 'Bytes of IP received in the network namespace.', () =>
    octets('InOctets'),
  );
  counter('process_network_transmit_bytes_total', 'Bytes of IP sent in the network namespace.', () =>
    octets('OutOctets'),
  );
  registerNodeMetrics(registry);
}

/** The names that prom-client itself uses for them. */
function registerNodeMetrics(registry: Registry): void {
  const gauge = (options: Omit<ComputedOptions, 'registry'>): void => computedGauge({ registry, ...options });
  gauge({
    name: 'nodejs_version_info',
    help: 'The version of Node; constant 1.',
    labels: ['version'],
    read: () => [[{ version: process.version }, 1]],
  });
  gauge({
    name: 'nodejs_heap_size_total_bytes',
    help: 'Size of the JavaScript heap in bytes.',
    read: () => process.memoryUsage().heapTotal,
  });
  gauge({
    name: 'nodejs_heap_size_used_bytes',
    help: 'Used part of the JavaScript heap in bytes.',
    read: () => process.memoryUsage().heapUsed,
  });
  gauge({
    name: 'nodejs_external_memory_bytes',
    help: 'Memory of JavaScript objects outside the heap in bytes.',
    read: () => process.memoryUsage().external,
  });
}
