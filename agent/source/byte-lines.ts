// Cuts a stream of bytes into lines. Works on bytes because a chunk may end inside a UTF-8 sequence.

const NEWLINE = 0x0a;

/** A line longer than `maxBytes` is an error: no object of the API comes near it. */
export class ByteLines {
  readonly #maxBytes: number;
  #parts: Buffer[] = [];
  #bytes = 0;

  constructor(maxBytes = 32 * 1024 * 1024) {
    this.#maxBytes = maxBytes;
  }

  /** The lines completed by this chunk, without their newlines; empty lines are left out. */
  *push(chunk: Buffer): Generator<string> {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      const tail = chunk.subarray(start, end);
      start = end + 1;
      if (this.#bytes === 0) {
        if (tail.length > 0) yield tail.toString('utf8');
      } else {
        const line = Buffer.concat([...this.#parts, tail]);
        this.#parts = [];
        this.#bytes = 0;
        yield line.toString('utf8');
      }
    }
    if (start === chunk.length) return;
    this.#parts.push(chunk.subarray(start));
    this.#bytes += chunk.length - start;
    if (this.#bytes > this.#maxBytes) throw new Error(`line of more than ${this.#maxBytes} bytes`);
  }

  /** Bytes received after the last newline. */
  get pendingBytes(): number {
    return this.#bytes;
  }
}
