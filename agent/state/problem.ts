// What was wrong with an object and therefore left out. Objects are untrusted: values are quoted and cut before they
// reach a message, and one object cannot flood the log.

/** Something an object says that cannot be used. */
export interface Problem {
  /** `Service ns/name`, `Node name`, … */
  readonly object: string;
  /** Path of the field, such as `spec.ports[1].port`; '' for the object as a whole. */
  readonly field: string;
  readonly message: string;
}

/** What parsing an object gave. */
export interface Parsed<T> {
  /** As the object says, '' when missing or no string. */
  readonly namespace: string;
  readonly name: string;
  /** null when it is not selected (no Problem then) or unusable as a whole. */
  readonly object: T | null;
  readonly problems: readonly Problem[];
}

/** Problems kept for one object; the rest are only counted. */
const PROBLEM_LIMIT = 20;
const SHOWN_LENGTH = 64;
/** The longest name the API allows: labels of valid objects differ. */
const NAME_LENGTH = 253;

/** A value from an object for a message: JSON, cut to a sane length. */
export function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(cut(value, SHOWN_LENGTH));
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return 'an object';
  return String(value);
}

function cut(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length)}…`;
}

/** How Problems and logs call an object; missing or senseless names included. */
export function objectLabel(kind: string, namespace: string, name: string): string {
  // Only printable ASCII: a name goes to terminals and logs before anything has validated it.
  const clean = (text: string) => (text === '' ? '?' : cut(text, NAME_LENGTH).replace(/[^\x21-\x7e…]/g, '?'));
  const namespaced = kind === 'Service' || kind === 'EndpointSlice';
  return namespaced ? `${kind} ${clean(namespace)}/${clean(name)}` : `${kind} ${clean(name)}`;
}

/** Collects the Problems of one object while it is parsed. */
export class ProblemList {
  readonly #object: string;
  readonly #found: Problem[] = [];
  #more = 0;

  constructor(object: string) {
    this.#object = object;
  }

  add(field: string, message: string): void {
    if (this.#found.length < PROBLEM_LIMIT) this.#found.push({ object: this.#object, field, message });
    else this.#more++;
  }

  list(): readonly Problem[] {
    if (this.#more === 0) return this.#found;
    return [...this.#found, { object: this.#object, field: '', message: `and ${this.#more} more problems` }];
  }
}
