// Where nobody tells of changes, an empty chain shows that rules were flushed (I-47): it is looked for now and then.
import { FAMILIES } from '../../native/ip.ts';
import { NOT_REPAIRED } from '../backend.ts';
import type { IptablesCallbacks } from './backend.ts';
import type { ToolRules } from './tool-rules.ts';

const PERIOD_MS = 30_000;

export interface CanaryWatchOptions extends IptablesCallbacks {
  readonly writer: Pick<ToolRules, 'hasCanary'>;
  readonly periodMs?: number;
}

export class CanaryWatch {
  readonly #options: CanaryWatchOptions;
  #timer: NodeJS.Timeout | null = null;
  #busy = false;
  /** The last repair failed. */
  #failing = false;

  constructor(options: CanaryWatchOptions) {
    this.#options = options;
  }

  start(): void {
    this.#timer ??= setInterval(() => this.#look(), this.#options.periodMs ?? PERIOD_MS).unref();
  }

  stop(): void {
    if (this.#timer) clearInterval(this.#timer);
    this.#timer = null;
  }

  #look(): void {
    if (this.#busy) return;
    this.#busy = true;
    const { exclusively, families, writer, events } = this.#options;
    exclusively(async () => {
      for (const family of FAMILIES.filter((f) => families().includes(f))) {
        if (await writer.hasCanary(family)) continue;
        await this.#repair();
        return;
      }
      this.#isRight();
    })
      .catch((error: unknown) => events.error('cannot look for the canary chain', error))
      .finally(() => {
        this.#busy = false;
      });
  }

  async #repair(): Promise<void> {
    const { repair, events } = this.#options;
    try {
      const drift = await repair();
      this.#isRight();
      if (drift) events.drift(drift);
    } catch (error) {
      events.error('cannot repair the rules', error);
      if (!this.#failing) events.condition(NOT_REPAIRED, 'rules were changed by somebody else and cannot be repaired');
      this.#failing = true;
    }
  }

  #isRight(): void {
    if (this.#failing) this.#options.events.condition(NOT_REPAIRED, null);
    this.#failing = false;
  }
}
