// The only module that calls into libc: sockets that Node itself cannot open. Everything else uses file descriptors.
import { DataType, load, open } from 'ffi-rs';

const { I32, U8Array } = DataType;
const LIBRARY = 'libc';
let opened = false;

/** A failed system call; `errno` is the positive kernel code. */
export class SystemError extends Error {
  readonly call: string;
  readonly errno: number;
  constructor(call: string, errno: number, detail: string) {
    super(`${call}: ${detail}`);
    this.name = 'SystemError';
    this.call = call;
    this.errno = errno;
  }
}

function call(funcName: string, values: readonly (number | Buffer)[]): number {
  if (!opened) {
    open({ library: LIBRARY, path: 'libc.so.6' });
    opened = true;
  }
  const result = load({
    library: LIBRARY,
    funcName,
    retType: I32,
    paramsType: values.map((v) => (typeof v === 'number' ? I32 : U8Array)),
    paramsValue: [...values],
    errno: true as const,
  });
  if (result.value < 0) throw new SystemError(funcName, result.errnoCode, result.errnoMessage);
  return result.value;
}

const u32 = (value: number): Buffer => {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(value);
  return buffer;
};

/** socket(2); returns a descriptor that is closed on exec. */
export function socket(domain: number, type: number, protocol: number): number {
  const SOCK_CLOEXEC = 0o2000000;
  return call('socket', [domain, type | SOCK_CLOEXEC, protocol]);
}

/** bind(2) with a raw sockaddr. */
export function bind(fd: number, address: Buffer): void {
  call('bind', [fd, address, address.length]);
}

/** getsockname(2); returns the raw sockaddr. */
export function getsockname(fd: number, length: number): Buffer {
  const address = Buffer.alloc(length);
  call('getsockname', [fd, address, u32(length)]);
  return address;
}

/** setsockopt(2) with a 32-bit value, or raw bytes for options that take a struct. */
export function setsockopt(fd: number, level: number, name: number, value: number | Buffer): void {
  const bytes = typeof value === 'number' ? u32(value) : value;
  call('setsockopt', [fd, level, name, bytes, bytes.length]);
}

/** setns(2): moves the calling thread into the namespace that `fd` refers to. */
export function setns(fd: number, type: number): void {
  call('setns', [fd, type]);
}
