import { describeError } from '../../output/describe-error.js';
import type { Routers } from '../../rpc/routers.js';
import type { ServedModel } from '../../rpc/served-model.js';
import { checkLengths, checkPolicies, chooseModel } from './check-cluster.js';
import { checkTokenCount, checkTokenIds } from './check-tokenizer.js';
import { EvalCluster } from './eval-cluster.js';
import type { EvalSubject } from './eval-subject.js';
import { tokenizerFingerprint } from './fingerprint-files.js';
import { mayPass } from './patience.js';
import { toPolicy } from './policies.js';
import { PromptHalves } from './prompt-halves.js';
import { type FinishedUnit, runDocuments } from './run-documents.js';
import { RunFolder } from './run-folder.js';
import { GENERATORS_VERSION, type RunPlan } from './run-plan.js';
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

/** How far a run came. */
export interface RunOutcome {
  /** With every sample there is; the caller closes it. */
  readonly folder: RunFolder;
  /** Documents times policies; null where the run failed before they could be counted. */
  readonly total: number | null;
  /** Null: all is answered. Otherwise an error that says how to go on, if the run may go on. */
  readonly failure: Error | null;
}

/**
 * Runs, or goes on with, an evaluation: checks everything, then asks, document by document, and writes
 * each answer down.
 *
 * @throws ServingError for what is refused before the run's folder is there
 */
export async function runEval(
  routers: Routers,
  subject: EvalSubject,
  options: EvalOptions,
  stream: NodeJS.WriteStream,
  signal: AbortSignal,
): Promise<RunOutcome> {
  const policies = options.policies.map(toPolicy);
  const model = await chooseModel(routers, options.model);
  checkLengths(subject.lengths, model);
  const directory = options.tokenizerOf(model.name);
  const halves = await PromptHalves.load(model.name, directory);
  await checkTokenCount(routers, model.name, halves, directory);
  const { documentSources, ...about } = subject;
  const plan = await planOf(about, model, directory, options.policies);
  const folder = await RunFolder.open(options.out, plan);
  let total: number | null = null;
  try {
    const sources = await documentSources(halves);
    total = sources.length * policies.length;
    if (folder.finishedDocuments < total) {
      const { concurrency, patienceMs } = options;
      const done = folder.finishedDocuments;
      const progress = new RunProgress(stream, total, done, () => performance.now());
      const cluster = new EvalCluster(routers, model.name, patienceMs, signal, (line) => {
        progress.note(line);
      });
      const onFinished = (unit: FinishedUnit): void => {
        progress.finished(unit);
      };
      try {
        await checkTokenIds(cluster, halves, directory);
        await folder.resolve(await checkPolicies(cluster, policies, halves));
        await runDocuments({ sources, policies, halves, cluster, folder, concurrency, onFinished });
      } finally {
        progress.stop();
      }
    }
    return { folder, total, failure: null };
  } catch (thrown) {
    const error = thrown instanceof Error ? thrown : new Error(describeError(thrown));
    const failure = signal.aborted ? error : sayHowToGoOn(error, folder, total);
    return { folder, total, failure };
  }
}

async function planOf(
  about: Omit<EvalSubject, 'documentSources'>,
  { name, fingerprint }: ServedModel,
  tokenizerDirectory: string,
  policies: readonly string[],
): Promise<RunPlan> {
  return {
    ...about,
    generators: GENERATORS_VERSION,
    model: name,
    modelFingerprint: fingerprint,
    tokenizerFingerprint: await tokenizerFingerprint(tokenizerDirectory),
    policies,
  };
}

function sayHowToGoOn(error: Error, folder: RunFolder, total: number | null): Error {
  if (!mayPass(error)) return error;
  const done = `${String(folder.finishedDocuments)} of ${String(total)} documents are in ${folder.path}`;
  return new Error(`${describeError(error)} (${done}: the same command goes on with the rest)`, {
    cause: error,
  });
}
