import type { PromptHalves } from './prompt-halves.js';
import type { DocumentSource } from './run-documents.js';
import type { RunPlan } from './run-plan.js';

/** What a run is about, apart from the model and its policies. */
export interface EvalSubject extends Pick<
  RunPlan,
  'benchmark' | 'tasks' | 'lengths' | 'documents' | 'seed' | 'options'
> {
  /** Every document, in the order in which they are asked; each is made when its turn comes. */
  readonly documentSources: (halves: PromptHalves) => Promise<DocumentSource[]>;
}
