// The API server as a source: the four kinds of objects, each with its own watch on a shared client.
import type { Log } from '../log.ts';
import type { KubeClient } from './kube-client.ts';
import { ListWatch } from './list-watch.ts';
import { resources } from './selection.ts';
import type { Sink, Source, WatchStatus } from './source.ts';
import { systemTimers, type Timers } from './timers.ts';

export interface ApiServerSourceOptions {
  readonly client: KubeClient;
  /** Only this Node is watched (P-10). */
  readonly nodeName: string;
  readonly log: Log;
  readonly timers?: Timers;
  /** False asks for lists by pages from the start. */
  readonly streamingList?: boolean;
}

export class ApiServerSource implements Source {
  readonly #options: ApiServerSourceOptions;
  #watches: readonly ListWatch[] = [];

  constructor(options: ApiServerSourceOptions) {
    this.#options = options;
  }

  start(sink: Sink): void {
    const { client, nodeName, log, timers = systemTimers, streamingList = true } = this.#options;
    this.#watches = resources(nodeName).map(
      (resource) => new ListWatch({ resource, nodeName, client, sink, log, timers, streamingList }),
    );
    for (const watch of this.#watches) watch.start();
  }

  /** Ends all watches and closes the client. */
  async stop(): Promise<void> {
    await Promise.all(this.#watches.map((watch) => watch.stop()));
    await this.#options.client.close();
  }

  status(): WatchStatus[] {
    return this.#watches.map((watch) => watch.status());
  }
}
