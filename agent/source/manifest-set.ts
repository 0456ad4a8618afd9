// Finds and reads manifest files, and merges their objects: of several definitions of an object the first file's wins.
import { createHash } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describeError } from '../log.ts';
import { type ManifestObject, parseManifest } from './manifest-file.ts';
import { identify, isSelected } from './selection.ts';

/** An object together with the file it is from. `version` changes with its content. */
export interface DefinedObject extends ManifestObject {
  readonly file: string;
  readonly version: string;
}

export interface ManifestSet {
  /** Those the agent looks at, each one once. */
  readonly objects: readonly DefinedObject[];
  /** Each begins with the file's name. */
  readonly errors: readonly string[];
  /** Folders in which a change may matter: those searched, and those of files given by name. */
  readonly folders: readonly string[];
  /** False while a given path cannot be read and never was. */
  readonly complete: boolean;
}

interface LoadedFile {
  readonly digest: string;
  readonly objects: readonly DefinedObject[];
  readonly errors: readonly string[];
}

interface Listing {
  readonly files: readonly string[];
  readonly folders: readonly string[];
}

const EXTENSIONS = /\.(ya?ml|json)$/i;

/** Keeps what was read, so that unchanged files are not parsed again and broken ones keep their objects. */
export class ManifestReader {
  readonly #paths: readonly string[];
  readonly #nodeName: string;
  /** What is below each given path; a path that cannot be listed keeps its entry. */
  readonly #files = new Map<string, Listing>();
  #loaded = new Map<string, LoadedFile>();

  /** `paths` are files or folders; folders are searched in depth for .yaml, .yml and .json files. */
  constructor(paths: readonly string[], nodeName: string) {
    this.#paths = paths;
    this.#nodeName = nodeName;
  }

  /** Reads everything once more. Never throws. */
  async read(): Promise<ManifestSet> {
    const errors: string[] = [];
    for (const path of this.#paths) {
      try {
        this.#files.set(path, await listFiles(path));
      } catch (err) {
        errors.push(`${path}: ${describeError(err)}`);
      }
    }
    const names = [...new Set([...this.#files.values()].flatMap((listing) => listing.files))].sort();
    const loaded = new Map<string, LoadedFile>();
    for (const name of names) {
      const file = await this.#load(name);
      loaded.set(name, file);
      errors.push(...file.errors.map((error) => `${name}: ${error}`));
    }
    this.#loaded = loaded;
    const objects = this.#merge(errors);
    const folders = [...new Set([...this.#files.values()].flatMap((listing) => listing.folders))];
    return { objects, errors, folders, complete: this.#paths.every((path) => this.#files.has(path)) };
  }

  async #load(name: string): Promise<LoadedFile> {
    const before = this.#loaded.get(name);
    let text: string;
    try {
      text = await readFile(name, 'utf8');
    } catch (err) {
      return { digest: '', objects: before?.objects ?? [], errors: [describeError(err)] };
    }
    const digest = digestOf(text);
    if (before?.digest === digest) return before;
    const { objects, errors } = parseManifest(text);
    if (errors.length > 0 && before !== undefined) return { digest, objects: before.objects, errors };
    return {
      digest,
      errors,
      objects: objects.map((o) => ({ ...o, file: name, version: digestOf(JSON.stringify(o.object)) })),
    };
  }

  #merge(errors: string[]): DefinedObject[] {
    const first = new Map<string, DefinedObject>();
    for (const object of [...this.#loaded.values()].flatMap((file) => file.objects)) {
      const key = `${object.kind} ${object.namespace}/${object.name}`;
      const other = first.get(key);
      if (other === undefined) first.set(key, object);
      else errors.push(`${object.file}: ${key} is ignored, it is defined in ${other.file} already`);
    }
    return [...first.values()].filter((o) => {
      const identity = identify(o.object);
      return identity !== null && isSelected(o.kind, identity, o.object, this.#nodeName);
    });
  }
}

async function listFiles(path: string): Promise<Listing> {
  if (!(await stat(path)).isDirectory()) return { files: [path], folders: [dirname(path)] };
  const files: string[] = [];
  const folders = [path];
  for (const entry of await readdir(path, { withFileTypes: true })) {
    // Kubernetes mounts ConfigMaps as links into a folder with a leading dot.
    if (entry.name.startsWith('.')) continue;
    const child = join(path, entry.name);
    if (entry.isDirectory()) {
      const below = await listFiles(child);
      files.push(...below.files);
      folders.push(...below.folders);
    } else if (EXTENSIONS.test(entry.name)) files.push(child);
  }
  return { files, folders };
}

function digestOf(text: string): string {
  return createHash('sha1').update(text).digest('base64');
}
