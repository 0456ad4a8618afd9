// Runs the vectors of files: finds the module of each kind, skips those that do not apply, with the reason.
import { existsSync, readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { KindModule, NotTested, Vector, VectorFile } from './vector.ts';

const MECHANISM = 'fixes a mechanism, not a behaviour';

/** Kinds that are not run, and why. */
export const SKIPPED: Readonly<Record<string, string>> = {
  'nft-objects': MECHANISM,
  'nft-stale-chains': MECHANISM,
  'iptables-stale-chains': MECHANISM,
  'sync-mode': MECHANISM,
};

export interface VectorResult {
  readonly vector: Vector;
  readonly outcome: 'passed' | 'failed' | 'skipped';
  /** Why it was skipped or what failed; '' when passed. */
  readonly reason: string;
  /** Expectations about modes that do not exist yet. */
  readonly notTested: NotTested;
}

/** Reads a vector file. Throws when it is none. */
export function readVectorFile(path: string): VectorFile {
  const file = JSON.parse(readFileSync(path, 'utf8'));
  if (file.schemaVersion !== 1 || !Array.isArray(file.vectors)) throw new Error(`${path}: not a vector file`);
  return file;
}

/** The JSON files of a folder, sorted. */
export async function vectorFiles(folder: string): Promise<string[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith('.json'));
  return names.sort().map((name) => join(folder, name));
}

/** Never throws: an unknown kind and a broken module are failures of the vector. */
export async function runVector(vector: Vector): Promise<VectorResult> {
  const skip = Object.hasOwn(SKIPPED, vector.kind) ? SKIPPED[vector.kind] : undefined;
  if (skip !== undefined) return { vector, outcome: 'skipped', reason: skip, notTested: {} };
  try {
    const module = new URL(`kinds/${vector.kind}.ts`, import.meta.url);
    if (!/^[a-z-]+$/.test(vector.kind) || !existsSync(module)) throw new Error(`unknown kind ${vector.kind}`);
    const kind: KindModule = await import(module.href);
    const notTested = (await kind.run(vector)) ?? {};
    return { vector, outcome: 'passed', reason: '', notTested };
  } catch (error) {
    return { vector, outcome: 'failed', reason: error instanceof Error ? error.message : String(error), notTested: {} };
  }
}
