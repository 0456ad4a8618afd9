// The texts of `/flagz` and `/statusz` (P-75): for people, without any promise about their form.

const WARNING = 'For debugging only: the form of this text may change at any time.\n\n';

/** The flags that were given, one a line. */
export function flagzText(flags: readonly { readonly name: string; readonly value: unknown }[]): string {
  const lines = flags.map(
    ({ name, value }) => `${name}:${typeof value === 'string' ? value : JSON.stringify(value)}\n`,
  );
  return `kubeplumb flagz\n${WARNING}${lines.sort().join('')}`;
}

export interface StatuszOptions {
  readonly version: string;
  readonly startedMs: number;
  readonly nowMs: number;
  readonly paths: readonly string[];
}

export function statuszText({ version, startedMs, nowMs, paths }: StatuszOptions): string {
  const minutes = Math.floor((nowMs - startedMs) / 60_000);
  const up = `${Math.floor(minutes / 60)} hr ${minutes % 60} min ${Math.floor((nowMs - startedMs) / 1000) % 60} sec`;
  return [
    `kubeplumb statusz\n${WARNING}Started  ${new Date(startedMs).toISOString()}`,
    `Up  ${up}`,
    `Node version  ${process.version}`,
    `Binary version  ${version}`,
    `Paths  ${paths.join(' ')}`,
    '',
  ].join('\n');
}
