// What all commands share: where they write, and how they fail.
import type { Style } from './terminal.ts';

export interface Io {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  readonly style: Style;
}

/** Ends a command with exit code 1; each line of the message goes to stderr. */
export class CommandError extends Error {}
