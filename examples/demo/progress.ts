// Tells what the demo does: a line for each step, with the time it took.
import { type Style, took } from '../../agent/ctl/terminal.ts';

export interface ProgressOptions {
  readonly write: (text: string) => void;
  readonly style: Style;
  readonly nowMs: () => number;
}

export class Progress {
  readonly #options: ProgressOptions;

  constructor(options: ProgressOptions) {
    this.#options = options;
  }

  heading(text: string): void {
    this.#options.write(`\n${this.#options.style('bold', text)}\n`);
  }

  text(text: string): void {
    this.#options.write(`${text}\n`);
  }

  /** Writes what is being done while it is done, then `note`: what came of it, and the time. */
  async step<T>(text: string, act: () => T | Promise<T>, note: (result: T) => string = () => ''): Promise<T> {
    const { write, style, nowMs } = this.#options;
    const began = nowMs();
    write(`  ${text} ... `);
    try {
      const result = await act();
      const ms = style('dim', `(${took(nowMs() - began)})`);
      write(`${[note(result), ms].filter((part) => part !== '').join(' ')}\n`);
      return result;
    } catch (error) {
      write(`${style('red', 'failed')}\n`);
      throw error;
    }
  }
}
