// The test API server as a process of its own, filled with a made-up cluster; used by benchmarks.
//
//   node test/support/api-server-main.ts --services 10000 --endpoints 5 --port 0
//
// Prints one line of JSON, {"url", "controlUrl", "node", "objects"}; with --control PATH the control server listens on
// that Unix socket. PUT of an object to the control URL stores it;
// GET controlUrl/NAMESPACE/NAME answers an EndpointSlice, DELETE removes it.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { parseArgs } from 'node:util';
import { TestApiServer } from './api-server.ts';
import { clusterObjects, makeNode, makeServiceCidr } from './cluster.ts';

const { values } = parseArgs({
  options: {
    services: { type: 'string', default: '1000' },
    endpoints: { type: 'string', default: '5' },
    nodes: { type: 'string', default: '10' },
    seed: { type: 'string', default: '1' },
    port: { type: 'string', default: '0' },
    control: { type: 'string', default: '' },
    'no-streaming-list': { type: 'boolean', default: false },
  },
});

const server = new TestApiServer({
  bookmarkEveryMs: 10_000,
  streamingList: values['no-streaming-list'] ? 'refuse' : 'serve',
});
server.store.load([makeNode('node-0'), makeServiceCidr()]);
server.store.load(
  clusterObjects({
    services: Number(values.services),
    endpointsPerService: Number(values.endpoints),
    nodes: Number(values.nodes),
    seed: Number(values.seed),
  }),
);

const control = createServer(async (req, res) => {
  const [, namespace = '', name = ''] = (req.url ?? '').split('/');
  try {
    if (req.method === 'PUT') {
      const chunks: Buffer[] = [];
      for await (const chunk of req) chunks.push(chunk);
      const { version } = server.store.put(JSON.parse(Buffer.concat(chunks).toString('utf8')));
      res.end(JSON.stringify({ resourceVersion: String(version) }));
    } else if (req.method === 'DELETE') {
      server.store.delete('EndpointSlice', namespace, name);
      res.end('{}');
    } else {
      const slice = server.store.all('endpointslices').find((o) => o.key === `${namespace}/${name}`);
      res.writeHead(slice === undefined ? 404 : 200, { 'content-type': 'application/json' });
      res.end(slice?.json ?? '{}');
    }
  } catch (err) {
    res.writeHead(400);
    res.end(String(err));
  }
});

const url = await server.start(Number(values.port));
// A Unix socket can be reached from any network namespace.
const where = values.control === '' ? { host: '127.0.0.1', port: 0 } : { path: values.control };
await new Promise<void>((resolve) => control.listen(where, resolve));
const controlUrl = values.control || `http://127.0.0.1:${(control.address() as AddressInfo).port}`;
const objects = server.store.all('services').length + server.store.all('endpointslices').length;
process.stdout.write(`${JSON.stringify({ url, controlUrl, node: 'node-0', objects })}\n`);
