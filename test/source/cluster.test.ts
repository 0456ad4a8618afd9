// The made-up cluster of benchmarks.
import t from 'tap';
import { makeCluster } from '../support/cluster.ts';

t.test('objects are unique, shaped as asked, and the same for the same seed', (t) => {
  const options = { services: 700, endpointsPerService: 130, nodes: 4, seed: 7 };
  const { services, endpointSlices, nodeNames } = makeCluster(options);
  t.equal(services.length, 700);
  t.equal(endpointSlices.length, 1400, 'slices of at most 100');
  t.equal(new Set(services.map((s) => (s.spec as { clusterIP: string }).clusterIP)).size, 700);
  const endpoints = endpointSlices.flatMap((s) => s.endpoints as { addresses: string[]; nodeName: string }[]);
  t.equal(endpoints.length, 700 * 130);
  t.equal(new Set(endpoints.map((e) => e.addresses[0])).size, 700 * 130);
  t.same(new Set(endpoints.map((e) => e.nodeName)), new Set(nodeNames));
  t.equal(services.at(-1)?.metadata.name, 'svc-699');
  t.equal(services.at(-1)?.metadata.namespace, 'ns-3');
  t.same(makeCluster(options).endpointSlices[5], endpointSlices[5]);
  const bytes = JSON.stringify(services[0]).length;
  t.ok(bytes > 800 && bytes < 1500, `a Service has ${bytes} bytes`);
  t.end();
});

t.test('more than 65,536 Services have addresses of their own', (t) => {
  const { services } = makeCluster({ services: 70_000, endpointsPerService: 0 });
  t.equal(new Set(services.map((s) => (s.spec as { clusterIP: string }).clusterIP)).size, 70_000);
  t.equal((services.at(-1)!.spec as { clusterIP: string }).clusterIP, '10.97.17.211');
  t.end();
});
