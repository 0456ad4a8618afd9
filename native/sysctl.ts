// Kernel settings below /proc/sys; those of the network are the calling thread's namespace's.
import { readFileSync, writeFileSync } from 'node:fs';

export interface SysctlFiles {
  read(file: string): string;
  write(file: string, value: string): void;
}

/** The kernel's own. */
export const FILES: SysctlFiles = {
  read: (file) => readFileSync(file, 'utf8'),
  write: (file, value) => writeFileSync(file, value),
};

const fileOf = (path: string): string => `/proc/sys/${path}`;

/** As sysctl(8) writes it: dots for slashes, and slashes for the dots that names of interfaces have. */
const shown = (path: string): string => path.replaceAll(/[./]/g, (c) => (c === '.' ? '/' : '.'));

function failure(what: string, error: unknown): Error {
  return new Error(`sysctl ${what}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
}

/**
 * The value of a setting, without white space around it.
 * @param path Below /proc/sys, such as `net/ipv4/vs/conntrack`.
 * @throws Error that names the path; its `cause` is the file system's, with a code such as ENOENT.
 */
export function readSysctl(path: string, files: SysctlFiles = FILES): string {
  try {
    return files.read(fileOf(path)).trim();
  } catch (error) {
    throw failure(shown(path), error);
  }
}

/** @throws Error that names path and value; `cause` as with readSysctl. */
export function writeSysctl(path: string, value: string, files: SysctlFiles = FILES): void {
  try {
    files.write(fileOf(path), value);
  } catch (error) {
    throw failure(`${shown(path)}=${value}`, error);
  }
}
