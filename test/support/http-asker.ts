// Asks HTTP servers of the network namespace it is started in, as probes do: a connection for each request. Argument: an
// `Asking` as JSON. Asks again until the codes are those that are awaited, then prints the answers as JSON.
import { type IncomingMessage, request } from 'node:http';

export interface Question {
  readonly url: string;
  /** GET unless given. */
  readonly method?: string;
  /** Lets the server keep the connection; else `Connection: close` is asked for. */
  readonly keepAlive?: boolean;
}

export interface Asking {
  readonly questions: Readonly<Record<string, Question>>;
  /** By name of the question: code, or `refused` where nobody listens; then the weight where there is one: `503 0`. */
  readonly awaited: Readonly<Record<string, string>>;
  readonly limitMs: number;
}

export interface Answer {
  /** Such as `200`, or `refused`. */
  readonly code: string;
  /** As sent, without those that tell date and length. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: unknown;
}

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/;
/** kube-proxy looks at the clock twice. */
const NOW_MS = 50;
/** Tell nothing, or follow from the body. */
const UNTOLD = ['date'];

function ask({ url, method = 'GET', keepAlive = false }: Question): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const headers = { connection: keepAlive ? 'keep-alive' : 'close' };
    const asked = request(url, { method, agent: false, headers }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part) => {
        text += part;
      });
      response.on('end', () => {
        asked.destroy();
        resolve({ code: String(response.statusCode), headers: headersOf(response, text), body: bodyOf(text) });
      });
    });
    asked.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED') resolve({ code: 'refused', headers: {}, body: '' });
      else reject(error);
    });
    asked.end();
  });
}

function headersOf({ rawHeaders, method }: IncomingMessage, text: string): Record<string, string> {
  const out: Record<string, string> = {};
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!;
    const value = rawHeaders[i + 1]!;
    const right = method === 'HEAD' || Number(value) === Buffer.byteLength(text);
    if (name.toLowerCase() === 'content-length') out[name] = right || text === '' ? 'LENGTH' : `wrong: ${value}`;
    else if (!UNTOLD.includes(name.toLowerCase())) out[name] = value;
  }
  return out;
}

/** Times become `TIME`, or `NOW` where they are that of the answer; seconds become `NUMBER`. */
function bodyOf(text: string): unknown {
  if (!text.startsWith('{')) return text;
  const { currentTime } = JSON.parse(text);
  return JSON.parse(text, (key, value) => {
    if (typeof value === 'string' && TIME.test(value)) {
      if (Math.abs(Date.parse(value) - Date.parse(currentTime)) < NOW_MS) return 'NOW';
      return value.startsWith('0001-') ? 'ZERO TIME' : 'TIME';
    }
    return key === 'silentSeconds' && typeof value === 'number' ? 'NUMBER' : value;
  });
}

const { questions, awaited, limitMs } = JSON.parse(process.argv[2]!) as Asking;
const deadline = performance.now() + limitMs;
for (;;) {
  const answers: Record<string, Answer> = {};
  for (const [name, question] of Object.entries(questions)) answers[name] = await ask(question);
  const there = Object.entries(awaited).every(([name, wanted]) => {
    const { code, headers } = answers[name]!;
    return [code, headers['X-Load-Balancing-Endpoint-Weight'] ?? []].flat().join(' ') === wanted;
  });
  if (there || performance.now() > deadline) {
    process.stdout.write(JSON.stringify({ there, answers }));
    break;
  }
  await new Promise((resolve) => setTimeout(resolve, 100));
}
