import { mkdir, open, readdir, readFile, rename, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { ServingError } from '../../../domain/serving-error.js';
import { describeError } from '../../output/describe-error.js';
import type { SampleResult } from '../eval-types.js';
import { LOCK_FILE, lockFolder } from './folder-lock.js';
import { type FinishedDocument, readFinishedLines, readSampleLines } from './run-lines.js';
import {
  describePlanDifference,
  describeThresholdDifference,
  type PlanThresholds,
  type RunPlan,
} from './run-plan.js';

const PLAN_FILE = 'run.json';
const RESULTS_FILE = 'results.jsonl';
const FINISHED_FILE = 'finished.jsonl';

const OWN_DIFFERENCE = 'the same options to go on with it';
const CLUSTER_DIFFERENCE =
  'start the cluster with the thresholds and the pattern file that it had, to go on with it';

/**
 * A run's folder: run.json (the plan), results.jsonl (a line a sample, in order of arrival) and
 * finished.jsonl (a line a document and policy); run.lock while a process runs in it. Lines are only ever appended; what a crash left of
 * a last line is cut off at the next start.
 */
export class RunFolder {
  readonly #samples = new Map<string, SampleResult>();
  readonly #finished = new Set<string>();
  /** One write at a time: a line is never inside another. */
  #writing: Promise<void> = Promise.resolve();

  private constructor(
    readonly path: string,
    private ownPlan: RunPlan,
    private readonly resultsFile: FileHandle,
    private readonly finishedFile: FileHandle,
    private readonly unlock: () => Promise<void>,
    results: readonly SampleResult[],
    finished: readonly FinishedDocument[],
  ) {
    const counts = new Map<string, number>();
    for (const sample of results) {
      const document = documentKey(sample.documentId, sample.policy);
      if (!this.#samples.has(sampleKey(sample)))
        counts.set(document, (counts.get(document) ?? 0) + 1);
      this.#samples.set(sampleKey(sample), sample);
    }
    for (const { documentId, policy, samples } of finished) {
      const document = documentKey(documentId, policy);
      if (counts.get(document) === samples) this.#finished.add(document);
    }
  }

  /**
   * Begins a run in an empty folder, or goes on with the one that is there.
   * @throws ServingError BAD_REQUEST if another plan's run is there, something else, a line that is
   *   none, or another process that runs
   */
  static async open(path: string, plan: RunPlan): Promise<RunFolder> {
    try {
      await mkdir(path, { recursive: true });
      await readPlan(path); // refuses what is no run's before anything is written there
      const unlock = await lockFolder(path);
      try {
        return await RunFolder.#read(path, plan, unlock);
      } catch (error) {
        await unlock();
        throw error;
      }
    } catch (error) {
      if (error instanceof ServingError) throw error;
      throw new ServingError('BAD_REQUEST', `--out ${path}: ${describeError(error)}`);
    }
  }

  static async #read(path: string, plan: RunPlan, unlock: () => Promise<void>): Promise<RunFolder> {
    const before = await readPlan(path);
    const results = await readSampleLines(join(path, RESULTS_FILE));
    // A plan without a sample binds nobody: it may have been refused since.
    const isNew = before === null || results.length === 0;
    if (isNew) await writePlan(path, plan);
    else refuseAnother(path, describePlanDifference(before, plan), OWN_DIFFERENCE);
    const thresholds = isNew ? undefined : before.thresholds;
    const kept = thresholds === undefined ? plan : { ...plan, thresholds };
    const finished = await readFinishedLines(join(path, FINISHED_FILE));
    const resultsFile = await open(join(path, RESULTS_FILE), 'a');
    const finishedFile = await open(join(path, FINISHED_FILE), 'a');
    return new RunFolder(path, kept, resultsFile, finishedFile, unlock, results, finished);
  }

  get plan(): RunPlan {
    return this.ownPlan;
  }

  /**
   * Makes what the cluster resolved part of the plan.
   * @throws ServingError BAD_REQUEST if there are samples, and they were made with something else
   */
  async resolve(thresholds: PlanThresholds): Promise<void> {
    const { path } = this;
    if (this.#samples.size > 0) {
      const differences = describeThresholdDifference(this.plan.thresholds, thresholds);
      refuseAnother(path, differences, CLUSTER_DIFFERENCE);
      return;
    }
    this.ownPlan = { ...this.plan, thresholds };
    await writePlan(path, this.ownPlan);
  }

  get samples(): SampleResult[] {
    return [...this.#samples.values()];
  }

  get finishedDocuments(): number {
    return this.#finished.size;
  }

  isFinished(documentId: string, policy: string): boolean {
    return this.#finished.has(documentKey(documentId, policy));
  }

  hasSample(documentId: string, policy: string, questionId: string): boolean {
    return this.#samples.has(sampleKey({ documentId, policy, questionId }));
  }

  async add(sample: SampleResult): Promise<void> {
    await this.#inTurn(async () => this.resultsFile.appendFile(`${JSON.stringify(sample)}\n`));
    this.#samples.set(sampleKey(sample), sample);
  }

  /** All samples of a document under one policy are added: from here on they survive the machine. */
  async finish(documentId: string, policy: string, samples: number): Promise<void> {
    const line: FinishedDocument = { documentId, policy, samples };
    await this.#inTurn(async () => {
      await this.resultsFile.sync();
      await this.finishedFile.appendFile(`${JSON.stringify(line)}\n`);
      await this.finishedFile.sync();
    });
    this.#finished.add(documentKey(documentId, policy));
  }

  async close(): Promise<void> {
    await this.#writing.catch(() => undefined);
    await this.resultsFile.close();
    await this.finishedFile.close();
    await this.unlock();
  }

  async #inTurn(write: () => Promise<void>): Promise<void> {
    const turn = this.#writing.catch(() => undefined).then(write);
    this.#writing = turn;
    return turn;
  }
}

async function readPlan(path: string): Promise<RunPlan | null> {
  const names = await readdir(path);
  if (names.includes(PLAN_FILE)) {
    try {
      return JSON.parse(await readFile(join(path, PLAN_FILE), 'utf8')) as RunPlan;
    } catch (error) {
      throw new ServingError(
        'BAD_REQUEST',
        `${join(path, PLAN_FILE)} is not a run's plan (${describeError(error)}); give another --out`,
      );
    }
  }
  if (names.every((name) => name === `${PLAN_FILE}.new` || name === LOCK_FILE)) return null;
  throw new ServingError(
    'BAD_REQUEST',
    `--out ${path} holds other files; give an empty folder, a new one, or that of a run to go on with`,
  );
}

async function writePlan(path: string, plan: RunPlan): Promise<void> {
  const file = await open(join(path, `${PLAN_FILE}.new`), 'w');
  await file.writeFile(`${JSON.stringify(plan, null, 2)}\n`);
  await file.sync();
  await file.close();
  await rename(join(path, `${PLAN_FILE}.new`), join(path, PLAN_FILE));
}

function refuseAnother(path: string, differences: readonly string[], advice: string): void {
  if (differences.length === 0) return;
  throw new ServingError(
    'BAD_REQUEST',
    `--out ${path} holds a run with another plan: ${differences.join('; ')}; give another folder, or ${advice}`,
  );
}

function documentKey(documentId: string, policy: string): string {
  return JSON.stringify([documentId, policy]);
}

function sampleKey({
  documentId,
  policy,
  questionId,
}: Pick<SampleResult, 'documentId' | 'policy' | 'questionId'>): string {
  return JSON.stringify([documentId, policy, questionId]);
}
