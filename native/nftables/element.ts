// Elements of sets and maps as the kernel lists them.
import { Attributes, eachAttribute, type Message } from '../netlink/message.ts';
import { commentText, type Element } from './batch.ts';

/** Calls `visit` for each element in a NEWSETELEM message. */
export function visitElements(message: Message, visit: (element: Element) => void): void {
  const { buffer } = message;
  eachAttribute(buffer, message.start + 4, message.end, (type, start, end) => {
    if (type !== 3) return;
    eachAttribute(buffer, start, end, (_list, from, to) => visit(readElement(buffer, from, to)));
  });
}

function readElement(buffer: Buffer, start: number, end: number): Element {
  let key = '';
  let keyEnd: string | undefined;
  let data: string | undefined;
  let comment: string | undefined;
  eachAttribute(buffer, start, end, (type, from, to) => {
    // Keys and data are nested once more: { NFTA_DATA_VALUE: bytes } or { NFTA_DATA_VERDICT: { code, chain } }.
    if (type === 1) key = readValue(buffer, from);
    else if (type === 10) keyEnd = readValue(buffer, from);
    else if (type === 2) data = readData(buffer, from, to);
    else if (type === 6) comment = commentText(buffer.toString('latin1', from, to));
  });
  return {
    key,
    ...(keyEnd !== undefined && { keyEnd }),
    ...(data !== undefined && { data }),
    ...(comment !== undefined && { comment }),
  };
}

/** The bytes of an attribute, without its padding. */
function readValue(buffer: Buffer, from: number): string {
  return buffer.toString('latin1', from + 4, from + buffer.readUInt16LE(from));
}

function readData(buffer: Buffer, from: number, to: number): string {
  const DATA_VERDICT = 2;
  if ((buffer.readUInt16LE(from + 2) & 0x3fff) !== DATA_VERDICT) return readValue(buffer, from);
  const verdict = new Attributes(buffer, from + 4, to);
  return verdict.text(2) ?? `verdict ${(verdict.u32(1) ?? 0) | 0}`;
}
