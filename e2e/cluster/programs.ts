// Whether the programs a provider needs are there, and how to get them.
import { runProgram } from './run-program.ts';

/** How to ask a program whether it works, and where it comes from. */
const PROGRAMS = {
  kubectl: {
    args: ['version', '--client'],
    get: 'https://kubernetes.io/docs/tasks/tools/ (or the package kubectl of your distribution)',
  },
  kind: { args: ['version'], get: 'https://kind.sigs.k8s.io/docs/user/quick-start/#installation' },
  docker: {
    args: ['info', '--format', '{{.ServerVersion}}'],
    get: 'https://docs.docker.com/engine/install/ (Debian, Ubuntu: apt-get install docker.io), and start it',
  },
} as const;

export type Program = keyof typeof PROGRAMS;

/** A line for each that does not work. */
export async function programsMissing(programs: readonly Program[]): Promise<string[]> {
  const lines = await Promise.all(
    programs.map(async (name) => {
      const { args, get } = PROGRAMS[name];
      try {
        await runProgram(name, args, { timeoutMs: 20_000 });
        return [];
      } catch (error) {
        const message = (error as Error).message;
        const why = message.includes('ENOENT')
          ? 'is not installed'
          : `does not work (${message.trim().split('\n').pop()})`;
        return [`${name} ${why}: ${get}`];
      }
    }),
  );
  return lines.flat();
}
