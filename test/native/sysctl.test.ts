// Kernel settings: where they are, and errors that name them.
import t from 'tap';
import { readSysctl, type SysctlFiles, writeSysctl } from '../../native/sysctl.ts';

t.test('paths lie below /proc/sys', async (t) => {
  const seen: string[] = [];
  const files: SysctlFiles = {
    read: (file) => {
      seen.push(file);
      return '1\n';
    },
    write: (file, value) => void seen.push(`${file}=${value}`),
  };
  t.equal(readSysctl('net/ipv4/vs/conntrack', files), '1');
  writeSysctl('net/ipv4/vs/conntrack', '0', files);
  t.strictSame(seen, ['/proc/sys/net/ipv4/vs/conntrack', '/proc/sys/net/ipv4/vs/conntrack=0']);
});

t.test('a setting of the running kernel', async (t) => {
  t.match(readSysctl('kernel/osrelease'), /^\d+\.\d+/);
});

t.test('failures name setting and value', async (t) => {
  const missing = { message: /^sysctl net\.ipv4\.conf\.eth0\/100\.nothing: ENOENT/, cause: { code: 'ENOENT' } };
  t.throws(() => readSysctl('net/ipv4/conf/eth0.100/nothing'), missing);
  const refused: SysctlFiles = {
    read: () => '',
    write: () => {
      throw new Error('EROFS: read-only file system');
    },
  };
  const message = 'sysctl net.ipv4.vs.conntrack=1: EROFS: read-only file system';
  t.throws(() => writeSysctl('net/ipv4/vs/conntrack', '1', refused), { message });
});
