// Texts of several tables, taken apart.
import type { Family } from '../../native/ip.ts';

const FAMILY_OF: Readonly<Record<string, Family>> = { ip: 'IPv4', ip6: 'IPv6' };

/** Keeps the tables of a family (null: of all), and none that is empty. */
export function selectTables(text: string, family: Family | null): string {
  if (text.startsWith('# ')) return selectSaved(text, family);
  return text.startsWith('table ') ? selectNft(text, family) : selectIpvs(text, family);
}

/** Virtual servers, the line of addresses, and tables, with a blank line before each that is not the first. */
function selectIpvs(text: string, family: Family | null): string {
  if (family === null) return text;
  const at = text.search(/^table /m);
  const head = at < 0 ? text : text.slice(0, at);
  const isWanted = (word: string): boolean => SOCKET6.test(word) === (family === 'IPv6');
  const lines = head.split('\n').filter(Boolean);
  const servers = lines.filter((line) => line.startsWith('-') && isWanted(line.split(' ')[2] ?? ''));
  const addresses = lines.flatMap((line) => {
    if (line.startsWith('-')) return [];
    const words = line.split(/(?<= )(?=\S)/);
    const kept = words.filter((word) => !word.includes('/') || isWanted(word));
    return kept.some((word) => word.includes('/')) ? [kept.join('')] : [];
  });
  const tables = at < 0 ? '' : selectNft(text.slice(at), family);
  return [...[servers, addresses].map((part) => part.map((line) => `${line}\n`).join('')), tables]
    .filter(Boolean)
    .join('\n');
}

/** `[fd00::1]:80`, `fd00::1/128`. */
const SOCKET6 = /:.*:/;

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
