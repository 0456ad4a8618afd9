// Renews test/fixtures/metrics/kube-proxy.json from what a kube-proxy exports: names, types, labels and buckets, no values.
//
//   curl -s http://127.0.0.1:10249/metrics | node test/record/kube-proxy-metrics.ts nftables
//
// Beforehand the proxy needs a Service with a Local policy and a UDP port, a change of an endpoint, and a request of
// /healthz and /livez each: many metrics appear only when something has happened.
import { readFileSync, writeFileSync } from 'node:fs';
import { parseExposition } from '../support/metrics.ts';

const FIXTURE = new URL('../fixtures/metrics/kube-proxy.json', import.meta.url);
const KEPT = /^(kubeproxy|kubernetes|process|rest_client)_/;

const [mode = ''] = process.argv.slice(2);
if (!['nftables', 'iptables', 'ipvs'].includes(mode)) throw new Error('usage: kube-proxy-metrics.ts MODE < METRICS');
const recorded = JSON.parse(readFileSync(FIXTURE, 'utf8'));
recorded[mode] = Object.fromEntries(
  [...parseExposition(readFileSync(0, 'utf8'))].flatMap(([name, { series: _, ...shape }]) =>
    KEPT.test(name) ? [[name, shape]] : [],
  ),
);
const lines = (metrics: object): string =>
  Object.entries(metrics)
    .map(([name, shape]) => `    "${name}": ${JSON.stringify(shape)}`)
    .join(',\n');
const modes = Object.entries(recorded).map(([name, metrics]) => `  "${name}": {\n${lines(metrics as object)}\n  }`);
writeFileSync(FIXTURE, `{\n${modes.join(',\n')}\n}\n`);
