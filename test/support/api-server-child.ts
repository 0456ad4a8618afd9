// A test API server that its parent may kill at any moment: the objects are the parent's (as etcd keeps those of a real
// one), and come over the IPC channel; what is asked of it goes back there. Started by ApiServerProcess.
import { TestApiServer } from './api-server.ts';
import type { StoreEvent, StoreSnapshot } from './api-store.ts';

/** To the child. */
export type ServerOrder =
  | { readonly do: 'serve'; readonly port: number; readonly store: StoreSnapshot; readonly bookmarksStalled: boolean }
  | { readonly do: 'replay'; readonly event: StoreEvent }
  | { readonly do: 'compact'; readonly version: number }
  | { readonly do: 'drop-watches'; readonly how: 'end' | 'cut' }
  | { readonly do: 'bookmarks'; readonly stalled: boolean };

/** What a request was: `expired` is a watch from a version that the server no longer knows. */
export type Asked = 'list' | 'watch' | 'expired';

/** From the child. */
export type ServerReport =
  | { readonly said: 'ready' }
  | { readonly said: 'serving'; readonly port: number }
  | { readonly said: 'asked'; readonly kind: string; readonly what: Asked };

const tell = (report: ServerReport): void => void process.send?.(report);

const server = new TestApiServer({
  bookmarkEveryMs: 1000,
  onRequest: ({ resource, query, watch }) => {
    const from = query.get('resourceVersion') ?? '';
    const list = !watch || query.get('sendInitialEvents') === 'true' || from === '';
    const expired = !list && Number(from) < server.store.compactedVersion;
    tell({ said: 'asked', kind: resource, what: list ? 'list' : expired ? 'expired' : 'watch' });
  },
});

async function obey(order: ServerOrder): Promise<void> {
  switch (order.do) {
    case 'serve':
      server.store.restore(order.store);
      server.bookmarksStalled = order.bookmarksStalled;
      tell({ said: 'serving', port: Number(new URL(await server.start(order.port)).port) });
      break;
    case 'replay':
      server.store.replay(order.event);
      break;
    case 'compact':
      server.store.compact(order.version);
      break;
    case 'drop-watches':
      server.dropWatches(order.how);
      break;
    case 'bookmarks':
      server.bookmarksStalled = order.stalled;
      break;
  }
}

// Only a process with a parent that talks to it serves; others may import the types.
if (process.send !== undefined && process.argv[1] === import.meta.filename) {
  process.on('message', (order: ServerOrder) => void obey(order));
  process.on('disconnect', () => process.exit(0));
  tell({ said: 'ready' });
}
