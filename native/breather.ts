// Long work on the event loop takes a breath now and then, so that health checks are answered meanwhile.

/** Gives the event loop a turn once `budgetMs` of work have passed since the last turn. */
export class Breather {
  readonly #budgetMs: number;
  #since = performance.now();

  constructor(budgetMs = 10) {
    this.#budgetMs = budgetMs;
  }

  get due(): boolean {
    return performance.now() - this.#since >= this.#budgetMs;
  }

  async rest(): Promise<void> {
    await new Promise<void>((resolve) => setImmediate(resolve));
    this.#since = performance.now();
  }
}
