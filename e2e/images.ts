// The images that checks run, each to be replaced by an environment variable where the default cannot be pulled.

export interface Images {
  /** Speaks agnhost's netexec: `netexec --http-port --udp-port`, /hostname, /clientip, /dial. */
  readonly agnhost: string;
  /** nginx, listening as an ordinary user, for a real ingress; null: agnhost stands in. */
  readonly ingress: string | null;
  /** The agent, where the suite deploys it. */
  readonly agent: string;
  /** Another version of the agent, for the upgrade; null: none (kind gives the same image another name). */
  readonly upgrade: string | null;
  /** Of kind's nodes; null: kind's own default. */
  readonly kindNode: string | null;
}

export function imagesFrom(env: Readonly<Record<string, string | undefined>>): Images {
  return {
    agnhost: env.E2E_AGNHOST_IMAGE || 'registry.k8s.io/e2e-test-images/agnhost:2.53',
    ingress: env.E2E_INGRESS_IMAGE || null,
    agent: env.E2E_AGENT_IMAGE || 'kubeplumb:e2e',
    upgrade: env.E2E_UPGRADE_IMAGE || null,
    kindNode: env.E2E_KIND_NODE_IMAGE || null,
  };
}
