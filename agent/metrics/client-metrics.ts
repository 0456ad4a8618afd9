// `rest_client_*` of requests to the API server (P-82).
import { Counter, Histogram, type Registry } from 'prom-client';
import type { RequestObserver } from '../source/kube-client.ts';
import { REQUEST_BUCKETS, SIZE_BUCKETS } from './buckets.ts';

export class ClientMetrics implements RequestObserver {
  readonly #requests: Counter;
  readonly #durations: Histogram;
  readonly #requestSizes: Histogram;
  readonly #responseSizes: Histogram;

  constructor(registry: Registry) {
    const common = { registers: [registry], labelNames: ['verb', 'host'] };
    this.#requests = new Counter({
      name: 'rest_client_requests_total',
      help: '[ALPHA] Requests to the API server by code, method and host; code <error> when there was no answer.',
      labelNames: ['code', 'method', 'host'],
      registers: [registry],
    });
    this.#durations = new Histogram({
      ...common,
      name: 'rest_client_request_duration_seconds',
      help: '[ALPHA] Time until the headers of the answer, in seconds; without watches.',
      buckets: [...REQUEST_BUCKETS],
    });
    this.#requestSizes = new Histogram({
      ...common,
      name: 'rest_client_request_size_bytes',
      help: '[ALPHA] Size of request bodies in bytes; without watches.',
      buckets: [...SIZE_BUCKETS],
    });
    this.#responseSizes = new Histogram({
      ...common,
      name: 'rest_client_response_size_bytes',
      help: '[ALPHA] Size of answers in bytes; without watches.',
      buckets: [...SIZE_BUCKETS],
    });
  }

  onRequest(request: Parameters<RequestObserver['onRequest']>[0]): void {
    const { method, host, status, watch, seconds, requestBytes } = request;
    this.#requests.inc({ code: status === null ? '<error>' : String(status), method, host });
    if (watch) return;
    this.#durations.observe({ verb: method, host }, seconds);
    this.#requestSizes.observe({ verb: method, host }, requestBytes);
  }

  onBody({ method, host, bytes }: Parameters<RequestObserver['onBody']>[0]): void {
    this.#responseSizes.observe({ verb: method, host }, bytes);
  }
}
