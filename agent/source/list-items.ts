// Cuts the body of a List response into its items while it arrives, so that a list of any size is never held or parsed as a whole.

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;

/** The facts of a List beside its items. */
export interface ListEnvelope {
  readonly resourceVersion: string;
  /** Token of the next page; '' on the last one. */
  readonly continueToken: string;
  readonly kind: string;
}

/** Follows strings and brackets of one JSON document; whatever is not in the top level's `items` belongs to the envelope. */
export class ListItems {
  #envelope = '';
  #item: Buffer[] = [];
  #depth = 0;
  #inString = false;
  #escaped = false;
  #inItems = false;

  /** Texts of the items completed by this chunk. */
  *push(chunk: Buffer): Generator<string> {
    // Start of the bytes of this chunk that belong to the item or the envelope being read.
    let start = 0;
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i];
      if (this.#inString) {
        if (this.#escaped) this.#escaped = false;
        else if (byte === BACKSLASH) this.#escaped = true;
        else if (byte === QUOTE) this.#inString = false;
      } else if (byte === QUOTE) {
        this.#inString = true;
      } else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
        this.#depth++;
        if (this.#inItems) {
          if (this.#depth === 3) start = i;
        } else if (this.#depth === 2 && byte === OPEN_BRACKET) {
          this.#envelope += chunk.toString('latin1', start, i + 1);
          start = i + 1;
          this.#inItems = /"items"\s*:\s*\[$/.test(this.#envelope.slice(-64));
        }
      } else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) {
        this.#depth--;
        if (!this.#inItems) continue;
        if (this.#depth === 2) {
          this.#item.push(chunk.subarray(start, i + 1));
          yield (this.#item.length === 1 ? this.#item[0]! : Buffer.concat(this.#item)).toString('utf8');
          this.#item = [];
        } else if (this.#depth === 1) {
          this.#inItems = false;
          start = i;
        }
      }
    }
    if (!this.#inItems) this.#envelope += chunk.toString('latin1', start);
    else if (this.#depth > 2) this.#item.push(chunk.subarray(start));
  }

  /** To be called at the end of the body. Throws when the document is incomplete or not a List. */
  finish(): ListEnvelope {
    const list: unknown = JSON.parse(this.#envelope);
    const { kind, metadata } = (list ?? {}) as { kind?: unknown; metadata?: Record<string, unknown> };
    const resourceVersion = metadata?.resourceVersion;
    if (typeof resourceVersion !== 'string') throw new Error('list without metadata.resourceVersion');
    const next = metadata?.continue;
    return {
      resourceVersion,
      continueToken: typeof next === 'string' ? next : '',
      kind: typeof kind === 'string' ? kind : '',
    };
  }
}
