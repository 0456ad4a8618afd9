// IP addresses and CIDRs as text (canonical) and as bytes. Bytes are latin1 strings: they concatenate,
// compare and serve as Map keys, and `Buffer.latin1Write` puts them on the wire.

export type Family = 'IPv4' | 'IPv6';
export const FAMILIES: readonly Family[] = ['IPv4', 'IPv6'];

export interface Cidr {
  family: Family;
  /** Network address, canonical. */
  base: string;
  prefix: number;
  /** `base/prefix`. */
  text: string;
}

export function familyOf(ip: string): Family {
  return ip.includes(':') ? 'IPv6' : 'IPv4';
}

const [DOT, ZERO, NINE] = [46, 48, 57] as const;

function parse4(text: string): string | null {
  // By character: this runs for every endpoint of every plan.
  const octets = [0, 0, 0, 0];
  let part = 0;
  let digits = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === DOT) {
      if (digits === 0 || ++part > 3) return null;
      digits = 0;
    } else {
      // Leading zeros are decimal (E-14).
      const value = octets[part]! * 10 + c - ZERO;
      if (c < ZERO || c > NINE || value > 255) return null;
      octets[part] = value;
      digits++;
    }
  }
  return part === 3 && digits > 0 ? String.fromCharCode(octets[0]!, octets[1]!, octets[2]!, octets[3]!) : null;
}

function groups(text: string): number[] | null {
  if (text === '') return [];
  const out: number[] = [];
  const parts = text.split(':');
  for (const [i, part] of parts.entries()) {
    if (i === parts.length - 1 && part.includes('.')) {
      const v4 = parse4(part);
      if (v4 === null) return null;
      out.push((v4.charCodeAt(0) << 8) | v4.charCodeAt(1), (v4.charCodeAt(2) << 8) | v4.charCodeAt(3));
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(part)) return null;
      out.push(Number.parseInt(part, 16));
    }
  }
  return out;
}

function parse6(text: string): string | null {
  const halves = text.split('::');
  if (halves.length > 2) return null;
  const head = groups(halves[0]!);
  const tail = halves.length === 2 ? groups(halves[1]!) : [];
  if (head === null || tail === null) return null;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return null;
  const all = [...head, ...new Array<number>(missing).fill(0), ...tail];
  return String.fromCharCode(...all.flatMap((g) => [g >> 8, g & 255]));
}

const MAPPED = '\0\0\0\0\0\0\0\0\0\0\xff\xff';

/** 4 or 16 bytes, or null when `text` is no IP address. An IPv4-mapped IPv6 address counts as IPv4 (E-14). */
export function ipBytes(text: string): string | null {
  if (!text.includes(':')) return parse4(text);
  const bytes = parse6(text);
  return bytes?.startsWith(MAPPED) ? bytes.slice(12) : bytes;
}

/** The canonical text (RFC 5952) of 4 or 16 bytes. */
export function ipText(bytes: string): string {
  if (bytes.length === 4) return [...bytes].map((c) => c.charCodeAt(0)).join('.');
  const words: number[] = [];
  for (let i = 0; i < 16; i += 2) words.push((bytes.charCodeAt(i) << 8) | bytes.charCodeAt(i + 1));
  let at = -1;
  let length = 1; // a single zero group is not compressed
  for (let i = 0; i < 8; i++) {
    let n = 0;
    while (i + n < 8 && words[i + n] === 0) n++;
    if (n > length) [at, length] = [i, n];
  }
  const hex = (w: number[]) => w.map((g) => g.toString(16)).join(':');
  return at < 0 ? hex(words) : `${hex(words.slice(0, at))}::${hex(words.slice(at + length))}`;
}

/** The canonical text of an address, or null (E-14: lenient, leading zeros are decimal). */
export function canonicalIP(text: string): string | null {
  const bytes = ipBytes(text);
  return bytes === null ? null : ipText(bytes);
}

/** A mask of `prefix` ones, as bytes of the family's length. */
export function maskBytes(family: Family, prefix: number): string {
  let out = '';
  for (let i = 0; i < (family === 'IPv4' ? 4 : 16); i++) {
    const ones = Math.min(8, Math.max(0, prefix - i * 8));
    out += String.fromCharCode((0xff00 >> ones) & 255);
  }
  return out;
}

/** First and last address of a CIDR, as bytes. */
export function cidrRange(cidr: Cidr): { low: string; high: string } {
  const low = ipBytes(cidr.base)!;
  const mask = maskBytes(cidr.family, cidr.prefix);
  let high = '';
  for (let i = 0; i < low.length; i++) high += String.fromCharCode(low.charCodeAt(i) | (~mask.charCodeAt(i) & 255));
  return { low, high };
}

/** Parses `address/prefix`, reduced to its network address (P-39); null when it is no CIDR. */
export function parseCidr(text: string): Cidr | null {
  const slash = text.indexOf('/');
  if (slash < 0) return null;
  const length = text.slice(slash + 1);
  const address = ipBytes(text.slice(0, slash));
  if (address === null || !/^\d{1,3}$/.test(length)) return null;
  const mapped = address.length === 4 && text.slice(0, slash).includes(':');
  const prefix = Number(length) - (mapped ? 96 : 0);
  const family: Family = address.length === 4 ? 'IPv4' : 'IPv6';
  if (prefix < 0 || prefix > address.length * 8) return null;
  const mask = maskBytes(family, prefix);
  let base = '';
  for (let i = 0; i < address.length; i++) base += String.fromCharCode(address.charCodeAt(i) & mask.charCodeAt(i));
  const baseText = ipText(base);
  return { family, base: baseText, prefix, text: `${baseText}/${prefix}` };
}

export function cidrContains(cidr: Cidr, ip: string): boolean {
  const bytes = ipBytes(ip);
  if (bytes === null || (bytes.length === 4) !== (cidr.family === 'IPv4')) return false;
  const { low, high } = cidrRange(cidr);
  return bytes >= low && bytes <= high;
}
