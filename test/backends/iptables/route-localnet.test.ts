// The sysctl for node ports on loopback addresses is set when it must be, and never otherwise.
import t from 'tap';
import { setRouteLocalnet } from '../../../backends/iptables/route-localnet.ts';
import type { NodeSettings } from '../../../backends/service-plan.ts';
import { SETTINGS } from '../../support/plans.ts';

const settings = (localhostNodePorts: boolean): NodeSettings => ({
  ...SETTINGS,
  families: { IPv4: { ...SETTINGS.families.IPv4!, localhostNodePorts } },
});

function files(value: string) {
  const written: [string, string][] = [];
  return { written, read: () => value, write: (file: string, text: string) => void written.push([file, text]) };
}

t.test('written only if different and effective', async (t) => {
  const off = files('0\n');
  t.equal(setRouteLocalnet(settings(true), off), true);
  t.strictSame(off.written, [['/proc/sys/net/ipv4/conf/all/route_localnet', '1']]);
  const on = files('1\n');
  t.equal(setRouteLocalnet(settings(true), on), false);
  t.strictSame(on.written, []);
  const unused = files('0\n');
  t.equal(setRouteLocalnet(settings(false), unused), false);
  t.equal(setRouteLocalnet({ ...SETTINGS, families: {} }, unused), false);
  t.strictSame(unused.written, []);
  t.equal(setRouteLocalnet(settings(false), files('1\n')), false, 'never reset');
});

t.test('failures name the sysctl', async (t) => {
  const refuse = (): never => {
    throw new Error('EROFS: read-only file system');
  };
  const message = /^node ports on loopback addresses: sysctl net\.ipv4\.conf\.all\.route_localnet(=1)?: EROFS/;
  t.throws(() => setRouteLocalnet(settings(true), { read: () => '0\n', write: refuse }), { message });
  t.throws(() => setRouteLocalnet(settings(true), { read: refuse, write: () => {} }), { message });
});
