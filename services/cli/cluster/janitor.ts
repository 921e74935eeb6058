import { CLUSTER_ID_VARIABLE, type ClusterDirectories } from './cluster-directories.js';
import { SupervisedChild } from './child-process.js';

/*
 * Outlives its parent to clean up after it: its stdin ends with the parent, however that dies.
 * Then it waits for the processes whose ids it was told (they end by the same sign), kills what
 * is left after ten seconds, and removes the cluster's folders. An id may have been used again since
 * its process ended, so only processes that carry the cluster's own variable ($3) count.
 */
const JANITOR = `
trap '' INT TERM HUP
pids=
while read -r pid; do pids="$pids $pid"; done
is_ours() { tr '\\0' '\\n' < "/proc/$1/environ" | grep -qxF -- "$ours"; }
ours=$3
rounds=0
for pid in $pids; do
  while is_ours "$pid" && [ "$rounds" -lt 100 ]; do
    rounds=$((rounds + 1))
    sleep 0.1
  done
  is_ours "$pid" && kill -KILL "$pid"
done 2>/dev/null
rm -rf -- "$1" "$2"
rmdir -- "\${1%/*}" 2>/dev/null
`;

/** Removes the cluster's folders once this process and the told ones are gone. */
export class Janitor {
  readonly #child: SupervisedChild;

  private constructor(child: SupervisedChild) {
    this.#child = child;
  }

  /** @param environment of the cluster's processes, with the variable that marks them */
  static async start(
    { clusterId, store, temporary }: ClusterDirectories,
    environment: NodeJS.ProcessEnv,
  ): Promise<Janitor> {
    const mark = `${CLUSTER_ID_VARIABLE}=${clusterId}`;
    return new Janitor(
      await SupervisedChild.start(
        'janitor',
        '/bin/sh',
        ['-c', JANITOR, 'longshadow-janitor', store, temporary, mark],
        environment,
      ),
    );
  }

  get pid(): number {
    return this.#child.pid;
  }

  waitFor(pid: number): void {
    this.#child.write(`${String(pid)}\n`);
  }

  /** Lets it clean up now; call when the told processes have ended. */
  async finish(): Promise<void> {
    this.#child.endInput();
    await this.#child.waitOrKill(15_000);
  }
}
