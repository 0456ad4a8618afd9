// The Problems objects have now, and word of each new one. An object's Problems come from two places that change
// independently: its own text, and conflicts with other objects.
import type { Problem } from './problem.ts';

export type Origin = 'parse' | 'conflict';

export class ProblemLog {
  readonly #current = new Map<string, Partial<Record<Origin, readonly Problem[]>>>();
  readonly #onProblems: (problems: readonly Problem[]) => void;

  constructor(options: { onProblems: (problems: readonly Problem[]) => void }) {
    this.#onProblems = options.onProblems;
  }

  /** Replaces the Problems of an object (`label` as in `Problem.object`); tells those it did not have before, all at once. */
  set(label: string, origin: Origin, problems: readonly Problem[]): void {
    const entry = this.#current.get(label);
    if (problems.length === 0 && entry === undefined) return;
    const known = new Set((entry?.[origin] ?? []).map(identity));
    const { [origin]: _, ...rest } = entry ?? {};
    const next = problems.length === 0 ? rest : { ...rest, [origin]: problems };
    if (Object.keys(next).length === 0) this.#current.delete(label);
    else this.#current.set(label, next);
    const added = problems.filter((problem) => {
      const isNew = !known.has(identity(problem));
      known.add(identity(problem));
      return isNew;
    });
    if (added.length > 0) this.#onProblems(added);
  }

  clear(label: string): void {
    this.#current.delete(label);
  }

  list(): Problem[] {
    return [...this.#current.values()].flatMap((entry) => [...(entry.parse ?? []), ...(entry.conflict ?? [])]);
  }
}

function identity(problem: Problem): string {
  return `${problem.field}\n${problem.message}`;
}
