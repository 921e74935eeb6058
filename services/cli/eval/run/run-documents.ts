import type { EvalDocument, SampleResult } from '../eval-types.js';
import { askDocument, encodeDocument, type EncodedDocument } from './ask-document.js';
import type { EvalCluster } from './eval-cluster.js';
import { inParallel } from './in-parallel.js';
import type { EvalPolicy } from './policies.js';
import type { PromptHalves } from './prompt-halves.js';
import type { RunFolder } from './run-folder.js';
import { Turnstile } from './turnstile.js';

/** A document that can be made when its turn comes. */
export interface DocumentSource {
  readonly id: string;
  make(): Promise<EvalDocument>;
}

/** A document that is answered under one policy. */
export interface FinishedUnit {
  readonly documentId: string;
  readonly policy: string;
  readonly samples: readonly SampleResult[];
  readonly ms: number;
}

export interface DocumentsRun {
  readonly sources: readonly DocumentSource[];
  readonly policies: readonly EvalPolicy[];
  readonly halves: PromptHalves;
  readonly cluster: EvalCluster;
  readonly folder: RunFolder;
  /** Documents, each under one policy, at the same time; and turns at the same time. */
  readonly concurrency: number;
  readonly onFinished: (unit: FinishedUnit) => void;
}

interface Unit {
  readonly source: DocumentSource;
  readonly policy: EvalPolicy;
  readonly encoded: () => Promise<EncodedDocument>;
}

/**
 * Answers every document under every policy, as far as the folder does not hold it yet.
 * @throws the first failure, when what runs besides has ended
 */
export async function runDocuments(run: DocumentsRun): Promise<void> {
  const { cluster, halves, concurrency, folder } = run;
  const { thresholds } = folder.plan;
  const context = { cluster, halves, turns: new Turnstile(concurrency), thresholds };
  await inParallel(missingUnits(run), concurrency, async ({ source, policy, encoded }) => {
    cluster.signal.throwIfAborted();
    const document = await encoded();
    const startedMs = performance.now();
    const samples: SampleResult[] = [];
    await askDocument(document, policy, context, {
      has: (questionId) => run.folder.hasSample(source.id, policy.name, questionId),
      add: async (sample) => {
        samples.push(sample);
        await run.folder.add(sample);
      },
    });
    const { questions, logprobTargets } = document.document;
    await run.folder.finish(source.id, policy.name, questions.length + logprobTargets.length);
    run.onFinished({
      ...{ documentId: source.id, policy: policy.name, samples },
      ms: performance.now() - startedMs,
    });
  });
}

/** A document is made once for its policies, which follow one another. */
function* missingUnits({ sources, policies, halves, folder }: DocumentsRun): Generator<Unit> {
  for (const source of sources) {
    let made: Promise<EncodedDocument> | null = null;
    const encoded = async (): Promise<EncodedDocument> =>
      (made ??= source.make().then(async (document) => encodeDocument(document, halves)));
    for (const policy of policies) {
      if (!folder.isFinished(source.id, policy.name)) yield { source, policy, encoded };
    }
  }
}
