// The real kube-apiserver accepts the manifests, and its RBAC gives the agent what it needs: all of it, and nothing in vain.
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { parseAllDocuments } from 'yaml';
import { ControlPlane, controlPlaneMissing } from '../support/control-plane.ts';
import { endAtExit, hasEnded } from '../support/namespaces.ts';
import { enterNamespace } from '../support/own-namespace.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { until } from '../support/test-node.ts';
import { scaled } from '../support/time-scale.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const NODE = 'node-a';
/** Resources that the agent can do without. */
const OPTIONAL: readonly string[] = ['servicecidrs', 'events'];
const REFUSED = /forbidden|403/i;

interface Rule {
  readonly apiGroups: string[];
  readonly resources: string[];
  readonly verbs: string[];
}

const rbac = parseAllDocuments(readFileSync(`${ROOT}/deploy/base/rbac.yaml`, 'utf8')).map((d) => d.toJS());
const role = rbac.find(({ kind }) => kind === 'ClusterRole');
const rules: readonly Rule[] = role.rules;

class Agent {
  readonly lines: string[] = [];
  readonly #child;

  constructor(kubeconfig: string) {
    this.#child = spawn(
      process.execPath,
      [
        join(ROOT, 'agent/main.ts'),
        '--proxy-mode=nftables',
        `--kubeconfig=${kubeconfig}`,
        `--hostname-override=${NODE}`,
        '--conntrack-max-per-core=0',
        '--conntrack-tcp-timeout-established=0',
        '--conntrack-tcp-timeout-close-wait=0',
        `--socket=${temporaryFolder()}/agent.sock`,
        '--logging-format=json',
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    const { pid } = this.#child;
    if (pid !== undefined) {
      endAtExit(pid);
      this.#child.once('exit', () => hasEnded(pid));
    }
    createInterface({ input: this.#child.stderr }).on('line', (line) => this.lines.push(line));
  }

  said(what: RegExp): boolean {
    if (this.#child.exitCode !== null) throw new Error(`the agent ended:\n${this.lines.join('\n')}`);
    return this.lines.some((line) => what.test(line));
  }

  async says(what: RegExp): Promise<void> {
    const waiting = until(String(what), () => this.said(what), 40_000);
    await waiting.catch((error) => {
      throw new Error(`${error.message}\n${this.lines.join('\n')}`);
    });
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    if (this.#child.exitCode === null && this.#child.kill()) await ended;
  }
}

/** Sets the role's rules and waits until they are in force. */
async function allow(plane: ControlPlane, allowed: readonly Rule[]): Promise<void> {
  plane.kubectl(['apply', '-f', '-'], JSON.stringify({ ...role, rules: allowed }));
  const can = ({ apiGroups: [group], resources: [resource], verbs: [verb] }: Rule): boolean => {
    const type = group ? `${resource}.${group}` : resource!;
    return canI(plane, [verb!, type, '--as=system:serviceaccount:kube-system:kubeplumb']);
  };
  await until('the rules are in force', () => rules.every((rule) => can(rule) === allowed.includes(rule)), 30_000);
}

function canI(plane: ControlPlane, args: readonly string[]): boolean {
  try {
    return plane.kubectl(['auth', 'can-i', ...args]).startsWith('yes');
  } catch {
    return false; // "no" is exit code 1
  }
}

const missing = controlPlaneMissing();
if (missing !== null) t.test('with a real API server', { skip: missing }, async () => {});
else if (await enterNamespace(t)) await tests(t);

async function tests(t: Test): Promise<void> {
  t.setTimeout(scaled(400_000));
  const plane = new ControlPlane();
  t.teardown(() => plane.close());
  await plane.start();

  await t.test('it accepts daemonset.yaml and every overlay', async (t) => {
    const accepted = (text: string, args: string[]): void => {
      t.match(text, /daemonset.apps\/kubeplumb created \(server dry run\)/, args.join(' '));
      t.notMatch(text, /warning/i);
    };
    const dryRun = ['apply', '--dry-run=server', '--validate=strict'];
    accepted(plane.kubectl([...dryRun, '-f', `${ROOT}/daemonset.yaml`]), ['daemonset.yaml']);
    for (const name of readdirSync(`${ROOT}/deploy/overlays`)) {
      accepted(plane.kubectl([...dryRun, '-k', `${ROOT}/deploy/overlays/${name}`]), [name]);
    }
  });

  plane.kubectl(['apply', '-f', `${ROOT}/deploy/base/rbac.yaml`]);
  plane.kubectl(['apply', '-f', '-'], JSON.stringify({ apiVersion: 'v1', kind: 'Node', metadata: { name: NODE } }));
  const status = { status: { addresses: [{ type: 'InternalIP', address: '192.0.2.11' }] } };
  plane.kubectl(['patch', 'node', NODE, '--subresource=status', '--type=merge', '-p', JSON.stringify(status)]);
  plane.kubectl(['create', 'service', 'clusterip', 'web', '--tcp=80', '--clusterip=10.96.0.80']);
  const token = plane.kubectl(['-n', 'kube-system', 'create', 'token', 'kubeplumb']).trim();
  const kubeconfig = plane.kubeconfigFor(token);

  await t.test('the agent works with its rights, and is refused nothing', async (t) => {
    await allow(plane, rules);
    const agent = new Agent(kubeconfig);
    t.teardown(() => agent.stop());
    await agent.says(/rules are in place/);
    const events = (): string => plane.kubectl(['get', 'events.events.k8s.io', '-A', '-o', 'wide']);
    await until('the event Starting is there', () => /Starting/.test(events()), 30_000);
    t.match(events(), new RegExp(`Starting.*node/${NODE}`));
    t.notMatch(agent.lines.join('\n'), REFUSED);
  });

  for (const rule of rules) {
    const [name = ''] = rule.resources;
    await t.test(`without the right to ${name}`, async (t) => {
      await allow(
        plane,
        rules.filter((other) => other !== rule),
      );
      const agent = new Agent(kubeconfig);
      t.teardown(() => agent.stop());
      if (OPTIONAL.includes(name)) {
        await agent.says(/rules are in place/);
        await agent.says(REFUSED);
        t.pass('it works, and says what it is refused');
        return;
      }
      await agent.says(new RegExp(`${name}.*(forbidden|403)|(forbidden|403).*${name}`, 'i'));
      t.notOk(agent.said(/rules are in place/), 'it programs nothing');
    });
  }
}
