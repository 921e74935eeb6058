import { ServingError } from '../../../domain/serving-error.js';
import type { PromptLogprob } from '../../../domain/session-event.js';
import type { TokenRange } from '../../../domain/token-range.js';
import type { GenerateOptions } from '../../rpc/to-header.js';
import type { EvalDocument, EvalQuestion, LogprobTarget, SampleResult } from '../eval-types.js';
import { scoreAnswer } from '../score/score.js';
import type { EvalCluster } from './eval-cluster.js';
import { inParallel } from './in-parallel.js';
import { isSessionGone } from './patience.js';
import { type EvalPolicy, policyOptions } from './policies.js';
import type { PromptHalves } from './prompt-halves.js';
import { describeThresholdDifference, type PlanThresholds } from './run-plan.js';
import { runTurn, type Turn } from './run-turn.js';
import { tileDensity } from './tile-density.js';
import type { Turnstile } from './turnstile.js';

/** A prefilled document is released after its questions; so long at most where its client was killed. */
const KEEP_DOCUMENT_MS = 1_800_000;
/** A fork waits for its question only, which comes at once: one whose answer was lost is soon free. */
const KEEP_FORK_MS = 15_000;

/** A document with the ids that all its policies and questions share. */
export interface EncodedDocument {
  readonly document: EvalDocument;
  readonly ids: readonly number[];
  readonly targetRanges: readonly TokenRange[];
}

/** Where a document's samples go, and which are there already. */
export interface Samples {
  has(questionId: string): boolean;
  add(sample: SampleResult): Promise<void>;
}

/** What all documents of a run share. */
export interface AskContext {
  readonly cluster: EvalCluster;
  readonly halves: PromptHalves;
  /** Turns at the same time, over all documents. */
  readonly turns: Turnstile;
  /** What sparse prefill must be resolved to in each turn; absent: not looked at. */
  readonly thresholds?: PlanThresholds | undefined;
}

/** @throws ServingError BAD_REQUEST or MODEL_INVALID for targets that cannot be told from ids */
export async function encodeDocument(
  document: EvalDocument,
  halves: PromptHalves,
): Promise<EncodedDocument> {
  const ids = await halves.documentIds(document);
  const targetRanges =
    document.logprobTargets.length === 0 ? [] : await halves.targetRanges(document, ids);
  return { document, ids, targetRanges };
}

/**
 * Gets a document's missing samples under one policy: prefills it once and forks it for each
 * question. A document with one question is asked in one go. Nothing stays in the cluster.
 */
export async function askDocument(
  encoded: EncodedDocument,
  policy: EvalPolicy,
  run: AskContext,
  samples: Samples,
): Promise<void> {
  const { cluster } = run;
  const asker = new DocumentAsker(encoded, policy, run, samples);
  try {
    await cluster.surely(
      async () => asker.askMissing(),
      () => false,
    );
  } catch (error) {
    if (!isSessionGone(error)) throw error;
    throw new ServingError(
      'VALUE_STORE_FULL',
      `the kept session of document ${encoded.document.id} was ended again and again before its questions were answered: lower --concurrency, or give the value store more room`,
      {},
      { cause: error },
    );
  }
}

class DocumentAsker {
  /** Of a question, for good: with what was prefilled here nothing more can be asked. */
  #failure: Error | null = null;

  constructor(
    private readonly encoded: EncodedDocument,
    private readonly policy: EvalPolicy,
    private readonly run: AskContext,
    private readonly samples: Samples,
  ) {}

  async askMissing(): Promise<void> {
    const { questions, logprobTargets } = this.encoded.document;
    const missing = questions.filter(({ id }) => !this.samples.has(id));
    const targets = logprobTargets.filter(({ id }) => !this.samples.has(id));
    const [only] = missing;
    if (questions.length === 0) {
      if (targets.length > 0) await this.#scoreTargets(await this.#readTargets());
    } else if (questions.length === 1 && logprobTargets.length === 0) {
      if (only !== undefined) await this.#askAlone(only);
    } else if (missing.length > 0 || targets.length > 0) {
      await this.#askForks(missing);
    }
  }

  /** The whole prompt in one go. */
  async #askAlone(question: EvalQuestion): Promise<void> {
    const ids = [...this.encoded.ids, ...(await this.#questionIds(question))];
    const turn = await this.#turn(this.#options(ids.length, question), ids);
    await this.#answered(question, turn, turn.report.timeToFirstTokenMs, tileDensity(turn.report));
  }

  /** A prefill whose one token nobody wants. */
  async #readTargets(): Promise<Turn> {
    const { ids } = this.encoded;
    const options = { ...this.#options(ids.length), promptLogprobs: this.encoded.targetRanges };
    return this.#turn(options, ids);
  }

  async #askForks(missing: readonly EvalQuestion[]): Promise<void> {
    const { cluster } = this.run;
    this.#failure = null;
    const base = await this.#prefill();
    try {
      await this.#scoreTargets(base);
      // As many as there are turns at a time: after a failure, no further question begins.
      await inParallel(missing, this.run.turns.places, async (question) => {
        const turn = await this.#surelyAskFork(base.sessionId, question);
        const waitedMs = base.report.timeToFirstTokenMs + turn.report.timeToFirstTokenMs;
        await this.#answered(question, turn, waitedMs, tileDensity(base.report));
      });
    } finally {
      await cluster.release(base.sessionId);
    }
  }

  /**
   * A kept session that holds exactly the document. A turn makes a token at least: the document's
   * last one is forced to be it, and is the first to be decoded instead of the last to be prefilled.
   */
  async #prefill(): Promise<Turn> {
    const { ids, targetRanges } = this.encoded;
    const prompt = ids.slice(0, -1);
    const options: GenerateOptions = {
      ...this.#options(prompt.length),
      forcedTokens: ids.slice(-1),
      keepSessionMs: KEEP_DOCUMENT_MS,
      promptLogprobs: targetRanges
        .map((range) => ({ ...range, endToken: Math.min(range.endToken, prompt.length) }))
        .filter(({ beginToken, endToken }) => beginToken < endToken),
    };
    return this.#turn(options, prompt);
  }

  /** After one question failed for good, the others are not begun, nor tried again. */
  async #surelyAskFork(baseSessionId: string, question: EvalQuestion): Promise<Turn> {
    try {
      return await this.run.cluster.surely(
        async () => this.#askFork(baseSessionId, question),
        (error) => this.#failure !== null || isSessionGone(error),
      );
    } catch (error) {
      this.#failure ??= error instanceof Error ? error : new Error(String(error));
      throw error;
    }
  }

  async #askFork(baseSessionId: string, question: EvalQuestion): Promise<Turn> {
    const { cluster, turns } = this.run;
    const ids = await this.#questionIds(question);
    return turns.pass(async () => {
      if (this.#failure !== null) throw this.#failure;
      const { sessionId } = await cluster.fork(baseSessionId, KEEP_FORK_MS);
      // Thresholds are the document's own: a turn that continues it may not name them again.
      const { tilesPerBlock: _, ...options } = this.#options(0, question);
      return runTurn(cluster, { ...options, continueSessionId: sessionId }, ids);
    });
  }

  async #turn(options: GenerateOptions, ids: readonly number[]): Promise<Turn> {
    const turn = await this.run.turns.pass(async () => runTurn(this.run.cluster, options, ids));
    this.#checkThresholds(turn);
    return turn;
  }

  /** A cluster that was started anew meanwhile may resolve a policy to something else. */
  #checkThresholds({ thresholds: now }: Turn): void {
    const { thresholds } = this.run;
    if (now === null || thresholds === undefined) return;
    const differences = describeThresholdDifference(thresholds, { [this.policy.name]: now });
    if (differences.length === 0) return;
    throw new ServingError(
      'BAD_REQUEST',
      `the cluster is not the one that the run began with: ${differences.join('; ')}; start it with the thresholds and the pattern file that it had, and the same command goes on`,
    );
  }

  #options(promptTokens: number, question: EvalQuestion | null = null): GenerateOptions {
    return {
      model: this.run.cluster.model,
      ...policyOptions(this.policy),
      ...(promptTokens === 0 ? {} : { maxPromptTokens: promptTokens }),
      maxNewTokens: question?.maxNewTokens ?? 1,
      ignoreEos: question === null,
      temperature: 0,
    };
  }

  async #questionIds(question: EvalQuestion): Promise<number[]> {
    return this.run.halves.questionIds(question, this.encoded.document.chat);
  }

  async #answered(
    question: EvalQuestion,
    turn: Turn,
    waitedMs: number,
    density: number | null,
  ): Promise<void> {
    const { id, references, facts } = question;
    await this.samples.add({
      ...this.#place(),
      ...{ questionId: id, references, facts },
      promptTokens: turn.report.promptTokens,
      prediction: turn.text,
      score: scoreAnswer(question, turn.text),
      ...{ logprobSum: null, targetTokens: null, worstRank: null },
      timeToFirstTokenMs: waitedMs,
      tileDensity: density,
    });
  }

  async #scoreTargets(turn: Turn): Promise<void> {
    const { document, targetRanges, ids } = this.encoded;
    for (const [at, target] of document.logprobTargets.entries()) {
      const range = targetRanges[at];
      if (range === undefined || this.samples.has(target.id)) continue;
      await this.samples.add({
        ...this.#place(),
        ...scoreTarget(target, range, turn.promptLogprobs),
        promptTokens: ids.length,
        timeToFirstTokenMs: turn.report.timeToFirstTokenMs,
        tileDensity: tileDensity(turn.report),
      });
    }
  }

  #place(): Pick<SampleResult, 'documentId' | 'task' | 'lengthTokens' | 'policy'> {
    const { id, task, lengthTokens } = this.encoded.document;
    return { documentId: id, task, lengthTokens, policy: this.policy.name };
  }
}

/** @throws Error if the cluster left a position out */
function scoreTarget(
  { id, facts }: LogprobTarget,
  { beginToken, endToken }: TokenRange,
  scored: ReadonlyMap<number, PromptLogprob>,
): Pick<
  SampleResult,
  | 'questionId'
  | 'prediction'
  | 'references'
  | 'score'
  | 'logprobSum'
  | 'targetTokens'
  | 'worstRank'
  | 'facts'
> {
  let [logprobSum, worstRank] = [0, 1];
  for (let position = beginToken; position < endToken; position += 1) {
    const token = scored.get(position);
    if (token === undefined) {
      throw new Error(`the cluster sent no log-probability of position ${String(position)}`);
    }
    logprobSum += token.logprob;
    worstRank = Math.max(worstRank, token.rank);
  }
  return {
    ...{ questionId: id, prediction: null, references: [], facts },
    score: worstRank === 1 ? 1 : 0,
    ...{ logprobSum, targetTokens: endToken - beginToken, worstRank },
  };
}
