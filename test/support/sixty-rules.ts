// The rules this project makes of the sixty Services of the fixtures.

import { INVALID_COUNTER } from '../../backends/iptables/fixed-rules.ts';
import { type RulesetOptions, type Tables, tablesOf } from '../../backends/iptables/ruleset.ts';
import { LOCALHOST_COUNTER } from '../../backends/iptables/service-rules.ts';
import type { ServicePlan } from '../../backends/service-plan.ts';
import type { Family } from '../../native/ip.ts';
import {
  INTERFACES,
  NODE_NAME,
  node,
  RECORDINGS,
  type RecordingName,
  sixtyServices,
} from '../fixtures/sixty-services.ts';
import { clusterOf } from './vector-cluster.ts';

export interface SixtyRules {
  readonly plans: readonly ServicePlan[];
  readonly options: RulesetOptions;
  readonly tables: Tables;
}

/** With the settings of a recording. */
export async function sixtyRules(recording: RecordingName, family: Family): Promise<SixtyRules> {
  const { config, crowded } = RECORDINGS[recording];
  const objects = sixtyServices();
  const cluster = clusterOf(
    {
      nodeName: NODE_NAME,
      node: node(),
      interfaces: INTERFACES,
      config,
      services: objects.filter(({ kind }) => kind === 'Service'),
      endpointSlices: objects.filter(({ kind }) => kind === 'EndpointSlice'),
    },
    'iptables',
  );
  const plans = await cluster.planner.all();
  const options: RulesetOptions = {
    settings: cluster.settings,
    family,
    nfacct: [INVALID_COUNTER, LOCALHOST_COUNTER],
    randomFully: true,
    largeCluster: crowded,
  };
  return { plans, options, tables: tablesOf(plans, options) };
}
