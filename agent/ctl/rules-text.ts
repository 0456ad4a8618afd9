// Texts of several tables, taken apart.
import type { Family } from '../../native/ip.ts';

const FAMILY_OF: Readonly<Record<string, Family>> = { ip: 'IPv4', ip6: 'IPv6' };

/** Keeps the tables of a family (null: of all), and none that is empty. */
export function selectTables(text: string, family: Family | null): string {
  return text.startsWith('# ') ? selectSaved(text, family) : selectNft(text, family);
}

/** Texts of iptables-save, each headed by its family. */
function selectSaved(text: string, family: Family | null): string {
  return text
    .split(/(?=^# IPv[46], as )/m)
    .filter((part) => family === null || part.startsWith(`# ${family}, `))
    .join('');
}

function selectNft(text: string, family: Family | null): string {
  const tables = text.split(/\n(?=table )/);
  const kept = tables.filter((table) => {
    const name = /^table (\S+)/.exec(table)?.[1] ?? '';
    return (family === null || FAMILY_OF[name] === family) && table.trim().split('\n').length > 2;
  });
  return kept.map((table) => `${table.trimEnd()}\n`).join('\n');
}
