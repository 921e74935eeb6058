import { sourceFingerprints } from '../eval/run/fingerprint-sources.js';
import { PromptHalves } from '../eval/run/prompt-halves.js';
import { makeDocument } from '../eval/tasks/task-list.js';
import { type TaskFiles, TaskSources } from '../eval/tasks/task-sources.js';
import type { SearchOptions } from './search-options.js';

/*
 * Prompts whose attention differs: a number to find among many like it, a chain of assignments,
 * questions and answers all over the text, and prose.
 */
const KINDS = ['niah_multikey_2', 'vt', 'midprompt', 'ppl'] as const;

/**
 * Added to a search's seed, so that the documents of `eval` with the same one are none that patterns
 * were chosen by. Any number above the seeds that people give.
 */
const SEED_OFFSET = 1_000_003;

/** One prompt of a search. */
export interface PromptPlan {
  /** Chosen by, or checked on. */
  readonly isHeldOut: boolean;
  readonly task: (typeof KINDS)[number];
  readonly seed: number;
  readonly index: number;
}

/**
 * A search's prompts in the order in which they run. Those held out have another seed; prose, which
 * is cut from one text, has the same one and goes on behind what was taken.
 */
export function planPrompts({ prompts, heldOut, ...options }: SearchOptions): PromptPlan[] {
  const seed = options.seed + SEED_OFFSET;
  return Array.from({ length: prompts + heldOut }, (_, number) => {
    const isHeldOut = number >= prompts;
    const place = isHeldOut ? number - prompts : number;
    const kind = place % KINDS.length;
    const task = KINDS[kind] ?? KINDS[0];
    const turn = Math.floor(place / KINDS.length);
    const isSameText = isHeldOut && task === 'ppl';
    // Of this kind, so many prompts come before those held out.
    const taken = Math.ceil(Math.max(prompts - kind, 0) / KINDS.length);
    return {
      ...{ isHeldOut, task },
      seed: isHeldOut && !isSameText ? seed + 1 : seed,
      index: isSameText ? taken + turn : turn,
    };
  });
}

/** Makes the ids of a search's prompts, as a cluster would get them. */
export class SearchPrompts {
  private constructor(
    private readonly halves: PromptHalves,
    private readonly files: TaskFiles,
    private readonly sources: TaskSources,
    private readonly frameTokens: number,
  ) {}

  /** @throws ServingError MODEL_INVALID for a tokenizer or a chat template that is wrong */
  static async load(modelDirectory: string, textFolder: string | null): Promise<SearchPrompts> {
    const halves = await PromptHalves.load('patterns', modelDirectory);
    const files = textFolder === null ? {} : { textFolder };
    const sources = new TaskSources(files);
    return new SearchPrompts(halves, files, sources, await halves.frameTokens(true));
  }

  /** Of what documents are made of: a search goes on with the same texts and words only. */
  fingerprints(): Promise<Record<string, string>> {
    return sourceFingerprints(['words', 'haystack', 'texts'], this.sources, this.files);
  }

  /**
   * Document and question. @param lengthTokens at most, the answer's room included
   * @throws ServingError BAD_REQUEST for a length that is too short for the task, or too long for
   *   the text
   */
  async ids({ task, seed, index }: PromptPlan, lengthTokens: number): Promise<Uint32Array> {
    const document = await makeDocument(task, {
      ...{ lengthTokens, index, seed, sources: this.sources },
      counter: this.halves.countTokens,
      templateTokens: this.frameTokens,
    });
    const [question] = document.questions;
    const asked =
      question === undefined ? [] : await this.halves.questionIds(question, document.chat);
    return Uint32Array.from([...(await this.halves.documentIds(document)), ...asked]);
  }
}
