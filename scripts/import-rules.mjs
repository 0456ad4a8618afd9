// Which module may import which: agent → backends → native, and no I/O below the modules that decide. Looks at value
// imports only where it is about I/O; a type costs nothing at run time.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

/** Folders and the ones they must not reach into. */
const DIRECTIONS = [
  ['native/', ['backends/', 'agent/', 'test/', 'bench/']],
  ['backends/', ['agent/', 'test/', 'bench/']],
  ['agent/', ['test/', 'bench/']],
];

const PURE_FOLDERS = ['agent/plan/', 'agent/state/'];
const PURE_BACKEND_FILES = [
  ...['fields', 'keys', 'layout', 'operations', 'rule-parts', 'table-plan', 'text'].map((name) => `nft-table/${name}`),
  ...[
    'actions',
    'action-chains',
    'action-steps',
    'changes',
    'chunks',
    'desired',
    'elements',
    'fixed-chains',
    'render',
    'schema',
    'service-selection',
    'service-table',
    'slots',
    'word-parts',
  ].map((name) => `nftables/${name}`),
  ...['companion-chains', 'companion-schema'].map((name) => `ipvs/${name}`),
].map((name) => `backends/${name}.ts`);

/** Modules that do I/O, or lead to it; of packages also their parts. */
const IO =
  /^((node:(fs|net|dgram|tls|http|https|http2|child_process|worker_threads)|undici|ffi-rs|netlink|@kubernetes\/client-node)(\/.*)?|native\/(libc|netlink\/socket|nftables\/connection)\.ts)$/;

const IMPORT = /^\s*(?:import|export)\s+(type\s+)?(?:([^'"`;]*?)\s+from\s+)?['"]([^'"]+)['"]/gm;
const DYNAMIC = /\bimport\(\s*['"]([^'"]+)['"]\s*\)/g;

/**
 * The modules a source imports: as written, and whether only types are taken.
 * @param {string} source
 * @returns {{ from: string, typeOnly: boolean }[]}
 */
export function importsOf(source) {
  const out = [];
  for (const [, type, names, from] of source.matchAll(IMPORT)) {
    const inner = /^\{([^}]*)\}$/.exec(names?.trim() ?? '')?.[1];
    const parts = inner
      ?.split(',')
      .map((name) => name.trim())
      .filter(Boolean);
    const allTypes = parts !== undefined && parts.length > 0 && parts.every((name) => name.startsWith('type '));
    out.push({ from, typeOnly: type !== undefined || allTypes });
  }
  for (const [, from] of source.matchAll(DYNAMIC)) out.push({ from, typeOnly: false });
  return out;
}

/** Path of an imported module from the root, or its name when it is not one of ours. */
function resolved(importer, from) {
  return from.startsWith('.') ? join(dirname(importer), from) : from;
}

function isPure(path) {
  return PURE_BACKEND_FILES.includes(path) || PURE_FOLDERS.some((folder) => path.startsWith(folder));
}

/**
 * @param {Map<string, { from: string, typeOnly: boolean }[]>} modules imports by path from the root
 * @returns {string[]} what breaks the rules
 */
export function violations(modules) {
  const out = [];
  for (const [path, imports] of modules) {
    const forbidden = DIRECTIONS.find(([folder]) => path.startsWith(folder))?.[1] ?? [];
    for (const { from } of imports) {
      const target = resolved(path, from);
      if (forbidden.some((folder) => target.startsWith(folder))) out.push(`${path} must not import ${target}`);
      if (target.startsWith('..')) out.push(`${path} imports ${from}, outside of the project`);
    }
    if (!isPure(path)) continue;
    const way = wayToIo(path, modules, new Set());
    if (way) out.push(`${path} must not do I/O: ${way.join(' → ')}`);
  }
  for (const path of PURE_BACKEND_FILES) {
    if (!modules.has(path)) out.push(`${path}, which must not do I/O, does not exist: name the file it has become`);
  }
  return out;
}

/** The chain of value imports from a module to one that does I/O, or null. */
function wayToIo(path, modules, seen) {
  seen.add(path);
  for (const { from, typeOnly } of modules.get(path) ?? []) {
    if (typeOnly) continue;
    const target = resolved(path, from);
    if (IO.test(target)) return [path, target];
    if (seen.has(target)) continue;
    const rest = wayToIo(target, modules, seen);
    if (rest) return [path, ...rest];
  }
  return null;
}

/** Reads the imports of these files. */
export function readModules(root, files) {
  const paths = files.filter((file) => existsSync(file));
  return new Map(paths.map((file) => [relative(root, file), importsOf(readFileSync(file, 'utf8'))]));
}
