// Kernel settings of ipvs mode (V-4, V-55, I-60).
import t from 'tap';
import { setIpvsSysctls } from '../../../backends/ipvs/sysctls.ts';
import type { SysctlFiles } from '../../../native/sysctl.ts';

function kernel(values: Record<string, string> = {}) {
  const written: string[] = [];
  const files: SysctlFiles = {
    read: (file) => `${values[file.replace('/proc/sys/net/ipv4/', '')] ?? '0'}\n`,
    write: (file, value) => void written.push(`${file.replace('/proc/sys/net/ipv4/', '')}=${value}`),
  };
  return { files, written };
}

const ALWAYS = ['vs/conntrack=1', 'vs/expire_nodest_conn=1', 'vs/expire_quiescent_template=1', 'ip_forward=1'];

t.test('what differs is written', async (t) => {
  const all = kernel();
  t.equal(setIpvsSysctls({ strictArp: false, kernel: '6.1.0-13-amd64' }, all.files).length, 4);
  t.strictSame(all.written, ALWAYS);
  const some = kernel({ ip_forward: '1', 'vs/conntrack': '1' });
  setIpvsSysctls({ strictArp: true, kernel: '6.1.0' }, some.files);
  t.strictSame(some.written, [ALWAYS[1], ALWAYS[2], 'conf/all/arp_ignore=1', 'conf/all/arp_announce=2']);
});

t.test('conn_reuse_mode only where the kernel makes trouble with it', async (t) => {
  for (const [release, expected] of [
    ['4.0.9', false],
    ['4.1.0', true],
    ['5.8.18-generic', true],
    ['5.9.0', false],
    ['5.10.0-28-amd64', false],
    ['6.18', false],
  ] as const) {
    const { files, written } = kernel({ 'vs/conn_reuse_mode': '1' });
    setIpvsSysctls({ strictArp: false, kernel: release }, files);
    t.equal(written.includes('vs/conn_reuse_mode=0'), expected, release);
  }
});
