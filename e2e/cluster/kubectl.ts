// kubectl as a child process, for one cluster.
import type { ApiObject } from './cluster.ts';
import { type RunOptions, runProgram } from './run-program.ts';

export class Kubectl {
  readonly #kubeconfig: string | null;

  /** @param kubeconfig path, or null for kubectl's own choice */
  constructor(kubeconfig: string | null) {
    this.#kubeconfig = kubeconfig;
  }

  /** @returns its output. @throws ProgramError */
  run(args: readonly string[], options: RunOptions = {}): Promise<string> {
    const access = this.#kubeconfig === null ? [] : [`--kubeconfig=${this.#kubeconfig}`];
    return runProgram('kubectl', [...access, ...args], options);
  }

  async json<T = ApiObject>(args: readonly string[], options: RunOptions = {}): Promise<T> {
    return JSON.parse(await this.run([...args, '-o', 'json'], options));
  }

  /** An object or a list of them, or null when there is none of that name. */
  async get<T = ApiObject>(...args: readonly string[]): Promise<T | null> {
    const text = await this.run(['get', '--ignore-not-found', '-o', 'json', ...args]);
    return text.trim() === '' ? null : JSON.parse(text);
  }

  /** Creates or changes. */
  apply(object: ApiObject): Promise<ApiObject> {
    const flags = ['--server-side', '--force-conflicts', '--field-manager=kubeplumb-e2e'];
    return this.json(['apply', ...flags, '-f', '-'], { input: JSON.stringify(object) });
  }
}
