// Live switch between ipvs and nftables mode.
import t from 'tap';
import { ipvsMissing } from '../support/ipvs-node.ts';
import { NFTABLES, switchThereAndBack } from '../support/ipvs-switch.ts';

const skip = await ipvsMissing();
t.setTimeout(240_000);

t.test('ipvs → nftables → ipvs', { skip }, (t) => switchThereAndBack(t, NFTABLES));
