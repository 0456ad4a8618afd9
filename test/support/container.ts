// Programs as a container runtime starts them in a pod with hostNetwork: few capabilities, kernel settings read-only, and,
// with a file system of their own, that read-only too. Without a container runtime.
import { spawnSync } from 'node:child_process';

/** Why programs cannot be started so here, or null. */
export function containerMissing(): string | null {
  if (process.getuid?.() !== 0) return 'needs root';
  const [program, ...args] = asContainer({ capabilities: [] });
  const { status, stderr, error } = spawnSync(program!, [...args, '/bin/true'], { encoding: 'utf8' });
  return status === 0 ? null : `no containers: ${error?.message ?? stderr.trim()}`;
}

export interface ContainerOptions {
  /** Such as `net_admin`; `all` for a privileged container. */
  readonly capabilities: readonly string[] | 'all';
  /** Its file system; that of the machine unless given. */
  readonly root?: string;
}

const READ_ONLY_SETTINGS = `
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys`;
/** What a runtime mounts; everything else stays read-only. */
const OWN_ROOT = `
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount --rbind /proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mkdir "$root/run/kubeplumb"`;

/** The beginning of a command line. The program's process id stays that of the process started. */
export function asContainer({ capabilities, root = '' }: ContainerOptions): string[] {
  const privileged = capabilities === 'all';
  // chroot needs a capability itself. In the image are no programs that could use it.
  const kept = privileged ? [] : [...capabilities, ...(root === '' ? [] : ['sys_chroot'])];
  const drop = privileged
    ? []
    : ['setpriv', '--no-new-privs', `--bounding-set=${['-all', ...kept.map((name) => `+${name}`)].join(',')}`];
  const enter = root === '' ? [] : ['chroot', '"$root"'];
  const script = [
    'set -e; root=$1; shift',
    ...(privileged ? [] : [READ_ONLY_SETTINGS]),
    ...(root === '' ? [] : [OWN_ROOT]),
    ['exec', ...drop, ...enter, '"$@"'].join(' '),
  ].join('\n');
  return ['unshare', '--mount', 'sh', '-c', script, 'container', root];
}
