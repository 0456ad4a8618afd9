// Writes a document as v1alpha1 (P-3): keys sorted, durations as Go prints them, periods of other modes as zero.
import { stringify } from 'yaml';
import { formatDuration } from './duration.ts';
import { API_VERSION, KIND } from './file.ts';
import { SCHEMA, type Section } from './schema.ts';
import { type KubeProxyConfiguration, PROXY_MODES } from './types.ts';

/** The document as a plain v1alpha1 object. */
export function toV1alpha1(document: KubeProxyConfiguration): Record<string, unknown> {
  const shown = structuredClone(document);
  for (const mode of PROXY_MODES) {
    if (mode !== document.mode) Object.assign(shown[mode], { syncPeriod: 0, minSyncPeriod: 0 });
  }
  return sorted({
    ...(encode(shown as unknown as Record<string, unknown>, SCHEMA as Section) as object),
    apiVersion: API_VERSION,
    kind: KIND,
  });
}

/** The document as YAML. */
export function documentText(document: KubeProxyConfiguration): string {
  return stringify(toV1alpha1(document), { version: '1.1', lineWidth: 0 });
}

// Left out when empty, as in files that kubeadm and kube-proxy write; other empty lists are null.
const OMITTED_WHEN_EMPTY = new Set(['featureGates', 'vmodule', 'splitStream', 'windowsRunAsService']);

function encode(value: Record<string, unknown>, section: Section): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [name, type] of Object.entries(section)) {
    const field = value[name];
    const empty = field === false || (typeof field === 'object' && field !== null && Object.keys(field).length === 0);
    if (empty && OMITTED_WHEN_EMPTY.has(name)) continue;
    if (typeof type === 'object' && 'section' in type)
      out[name] = encode(field as Record<string, unknown>, type.section);
    else if (type === 'duration' || type === 'durationOrNumber') out[name] = formatDuration(field as number);
    else out[name] = empty && Array.isArray(field) ? null : field;
  }
  return sorted(out);
}

function sorted(object: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1)));
}
