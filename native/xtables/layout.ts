// What all structs of x_tables extensions share: a name, a revision, a size, and integers in host order (little endian
// on every platform Node's packages exist for). Bytes are latin1 strings.

/** The `info` of one revision of a match or target: how values become bytes and back. */
export interface Layout<T> {
  /** The kernel's name of the extension. */
  readonly name: string;
  readonly revision: number;
  /** Bytes, a multiple of 8 (XT_ALIGN). */
  readonly size: number;
  /** @throws RangeError when a text does not fit its field. */
  readonly write: (value: T) => string;
  /** The value, or null when the bytes say something that `write` never does. */
  readonly read: (info: string) => T | null;
}

/**
 * Completes a layout: what `parse` makes of the bytes counts only if writing it gives them again, so that no bit
 * unknown to us is overlooked. `significant` blanks bytes that mean nothing.
 */
export function layout<T>(options: {
  name: string;
  revision: number;
  size: number;
  write: (value: T) => string;
  /** undefined: no value can be in these bytes. */
  parse: (info: string) => T | undefined;
  significant?: (info: string) => string;
}): Layout<T> {
  const { name, revision, size, write, parse, significant = (info) => info } = options;
  return {
    name,
    revision,
    size,
    write,
    read(info) {
      if (info.length !== size) return null;
      const value = parse(info);
      return value !== undefined && significant(write(value)) === significant(info) ? value : null;
    },
  };
}

export const zeros = (count: number): string => '\0'.repeat(count);

export const u16 = (value: number): string => String.fromCharCode(value & 255, (value >> 8) & 255);

export const u16At = (info: string, at: number): number => info.charCodeAt(at) | (info.charCodeAt(at + 1) << 8);

export const u32At = (info: string, at: number): number =>
  (u16At(info, at) | (info.charCodeAt(at + 2) << 16) | (info.charCodeAt(at + 3) << 24)) >>> 0;

/** Text as UTF-8, with a NUL after it and padded to `size`. @throws RangeError when it is too long. */
export function textField(what: string, text: string, size: number): string {
  const bytes = Buffer.from(text, 'utf8').toString('latin1');
  if (bytes.length >= size) throw new RangeError(`${what} of ${bytes.length} bytes, at most ${size - 1}: ${text}`);
  return bytes + zeros(size - bytes.length);
}

/** Text up to the first NUL within `size` bytes; undefined when there is no NUL or it is not UTF-8. */
export function textAt(info: string, at: number, size: number): string | undefined {
  const nul = info.indexOf('\0', at);
  if (nul < 0 || nul >= at + size) return undefined;
  const bytes = info.slice(at, nul);
  const text = Buffer.from(bytes, 'latin1').toString('utf8');
  return Buffer.from(text, 'utf8').toString('latin1') === bytes ? text : undefined;
}
