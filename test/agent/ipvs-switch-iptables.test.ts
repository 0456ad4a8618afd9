// Live switch between ipvs and iptables mode.
import t from 'tap';
import { variantMissing } from '../support/iptables-node.ts';
import { ipvsMissing } from '../support/ipvs-node.ts';
import { IPTABLES, switchThereAndBack } from '../support/ipvs-switch.ts';

const skip = (await ipvsMissing()) || variantMissing('nft');
t.setTimeout(240_000);

t.test('ipvs → iptables → ipvs', { skip }, (t) => switchThereAndBack(t, IPTABLES));
