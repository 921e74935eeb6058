import { describeError } from '../../output/describe-error.js';
import type { Routers } from '../../rpc/routers.js';
import { checkLengths, checkPolicies, checkTokenizer, chooseModel } from './check-cluster.js';
import { EvalCluster } from './eval-cluster.js';
import type { EvalSubject } from './eval-subject.js';
import { tokenizerFingerprint } from './fingerprint-files.js';
import { mayPass } from './patience.js';
import { toPolicy } from './policies.js';
import { PromptHalves } from './prompt-halves.js';
import { type FinishedUnit, runDocuments } from './run-documents.js';
import { RunFolder } from './run-folder.js';
import type { RunPlan } from './run-plan.js';
import { RunProgress } from './run-progress.js';

export interface EvalOptions {
  /** Undefined: the only one that is served. */
  readonly model: string | undefined;
  /** Folder of the model's tokenizer, by the model's name. */
  readonly tokenizerOf: (model: string) => string;
  /** Folder of the run. */
  readonly out: string;
  readonly policies: readonly string[];
  /** Documents at the same time, and turns at the same time. */
  readonly concurrency: number;
  /** How long a cluster that says nothing is waited for. */
  readonly patienceMs: number;
}

/**
 * Runs, or goes on with, an evaluation: checks everything, then asks, document by document, and writes
 * each answer down.
 *
 * @returns the run's folder, with every sample; the caller closes it
 * @throws ServingError for what is refused before work; Error that says how to go on
 */
export async function runEval(
  routers: Routers,
  subject: EvalSubject,
  options: EvalOptions,
  stream: NodeJS.WriteStream,
  signal: AbortSignal,
): Promise<RunFolder> {
  const policies = options.policies.map(toPolicy);
  const model = await chooseModel(routers, options.model);
  checkLengths(subject.lengths, model);
  const directory = options.tokenizerOf(model.name);
  const halves = await PromptHalves.load(model.name, directory);
  await checkTokenizer(routers, model.name, halves, directory);
  const { documentSources, ...about } = subject;
  const plan: RunPlan = {
    ...about,
    model: model.name,
    modelFingerprint: model.fingerprint,
    tokenizerFingerprint: await tokenizerFingerprint(directory),
    policies: options.policies,
  };
  const folder = await RunFolder.open(options.out, plan);
  try {
    const sources = await documentSources(halves);
    const total = sources.length * policies.length;
    if (folder.finishedDocuments === total) return folder;
    const progress = new RunProgress(stream, total, folder.finishedDocuments, () =>
      performance.now(),
    );
    const cluster = new EvalCluster(routers, model.name, options.patienceMs, signal, (line) => {
      progress.note(line);
    });
    try {
      await checkPolicies(cluster, policies, halves);
      const { concurrency } = options;
      const onFinished = (unit: FinishedUnit): void => {
        progress.finished(unit);
      };
      await runDocuments({ sources, policies, halves, cluster, folder, concurrency, onFinished });
    } catch (error) {
      if (signal.aborted || !mayPass(error)) throw error;
      const done = `${String(folder.finishedDocuments)} of ${String(total)} documents are in ${options.out}`;
      throw new Error(`${describeError(error)} (${done}: the same command goes on with the rest)`, {
        cause: error,
      });
    } finally {
      progress.stop();
    }
    return folder;
  } catch (error) {
    await folder.close();
    throw error;
  }
}
