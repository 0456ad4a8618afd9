// With `enableProfiling` (P-76): the log level can be changed, and a CPU profile taken, in Node's own format. The other
// profiles of kube-proxy are those of Go's runtime.
import type { IncomingMessage } from 'node:http';
import { Session } from 'node:inspector/promises';
import type { Answer, Route } from './metrics-server.ts';

export interface ProfilingOptions {
  readonly setVerbosity: (verbosity: number) => void;
  /** Takes a CPU profile of this many seconds; JSON for Chrome's developer tools. */
  readonly cpuProfile?: (seconds: number) => Promise<string>;
}

const DEFAULT_SECONDS = 30;
const MOST_SECONDS = 300;
const MOST_BODY_BYTES = 1024;
const NO_SNIFF = { 'X-Content-Type-Options': 'nosniff' };
const INDEX =
  'Profiles of this process:\n  /debug/pprof/profile?seconds=30  CPU profile as .cpuprofile, for the developer tools of Chrome and editors\n' +
  'The profiles of the Go runtime (heap, goroutine, …) have no counterpart here.\n';

const text = (status: number, body: string): Answer => ({ status, body, type: 'text/plain', headers: NO_SNIFF });

export function profilingRoutes({
  setVerbosity,
  cpuProfile = takeCpuProfile,
}: ProfilingOptions): Record<string, Route> {
  let busy = false;
  return {
    '/debug/flags/v': async (request) => {
      if (request.method !== 'PUT') return text(406, 'unsupported http method\n');
      const value = await body(request);
      if (!/^\d{1,9}$/.test(value)) return text(400, `verbosity must be a number, not ${JSON.stringify(value)}\n`);
      setVerbosity(Number(value));
      return text(200, `successfully set klog.logging.verbosity to ${Number(value)}\n`);
    },
    '/debug/pprof/': () => text(200, INDEX),
    '/debug/pprof/profile': async (_, { searchParams }) => {
      const seconds = Number(searchParams.get('seconds') ?? DEFAULT_SECONDS);
      if (!(seconds > 0 && seconds <= MOST_SECONDS))
        return text(400, `seconds must be a number up to ${MOST_SECONDS}\n`);
      if (busy) return text(409, 'a profile is being taken already\n');
      busy = true;
      try {
        const headers = { ...NO_SNIFF, 'Content-Disposition': 'attachment; filename="kubeplumb.cpuprofile"' };
        return { type: 'application/json', body: await cpuProfile(seconds), headers, large: true };
      } finally {
        busy = false;
      }
    },
  };
}

async function body(request: IncomingMessage): Promise<string> {
  let out = '';
  for await (const chunk of request) {
    out += String(chunk);
    if (out.length > MOST_BODY_BYTES) throw new Error(`a body of more than ${MOST_BODY_BYTES} bytes`);
  }
  return out.trim();
}

async function takeCpuProfile(seconds: number): Promise<string> {
  const session = new Session();
  session.connect();
  try {
    await session.post('Profiler.enable');
    await session.post('Profiler.start');
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    const { profile } = await session.post('Profiler.stop');
    return JSON.stringify(profile);
  } finally {
    session.disconnect();
  }
}
