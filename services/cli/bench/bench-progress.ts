import { planPrefillChunks } from '../../domain/plan-prefill-chunks.js';
import { type ChunkWork, remainingPrefillMs, type SparseLaw } from '../../domain/prefill-cost.js';
import { formatCount, formatDuration } from '../output/format.js';
import { ProgressLine } from '../output/progress-line.js';
import { sum } from '../eval/report/statistics.js';
import { BENCH_CUT_RULE } from './bench-policy.js';
import type { MeasuredChunk } from './interleaved-prefill.js';

/** What a measurement is made of, for its progress. */
export interface BenchExtent {
  readonly tokens: number;
  readonly repeats: number;
  readonly policies: readonly {
    readonly name: string;
    /** Chunks that begin here or later do not run. */
    readonly untilToken: number;
    /** Null: dense. */
    readonly law: SparseLaw | null;
  }[];
}

/** How far a measurement is, on stderr. */
export class BenchProgress {
  readonly #line: ProgressLine;
  readonly #lanes: Map<string, Lane>;
  #doneMs = 0;

  /** @param now milliseconds, any origin */
  constructor(
    stream: NodeJS.WriteStream,
    private readonly extent: BenchExtent,
    now: () => number,
  ) {
    this.#line = new ProgressLine(stream, 'bench', 0, now);
    this.#lanes = new Map(
      extent.policies.map(({ name, untilToken, law }) => [
        name,
        new Lane(lastToken(extent.tokens, untilToken), law),
      ]),
    );
  }

  /** A chunk is through. */
  chunk({ policy, repeat, beginToken, endToken, result }: MeasuredChunk): void {
    const { engineMicros, attentionMicros } = result;
    const wallMicros = engineMicros;
    const work = { beginToken, endToken, engineMicros, attentionMicros, wallMicros };
    this.#lanes.get(policy)?.add(repeat, work);
    this.#doneMs += engineMicros / 1_000;
    const { tokens, repeats } = this.extent;
    const left = [...this.#lanes.values()].map((lane) => lane.leftMs(repeat, repeats));
    const leftMs = left.includes(null) ? null : sum(left.map((ms) => ms ?? 0));
    const share = leftMs === null ? 0 : this.#doneMs / (this.#doneMs + leftMs);
    const figures = [
      repeats === 1 ? '' : `repeat ${formatCount(repeat + 1)} of ${formatCount(repeats)}`,
      `${policy}: ${formatCount(endToken)} of ${formatCount(tokens)} tokens`,
      leftMs === null ? '' : `${formatDuration(leftMs)} left`,
    ];
    this.#line.show(share, figures.filter((figure) => figure !== '').join(', '));
  }

  stop(): void {
    this.#line.stop();
  }
}

/** What one policy has done and has yet to do. */
class Lane {
  #repeat = 0;
  #finished: ChunkWork[] = [];
  /** Of a whole repeat; null until its first chunk. */
  #wholeMs: number | null = null;

  constructor(
    private readonly totalTokens: number,
    private readonly law: SparseLaw | null,
  ) {}

  add(repeat: number, work: ChunkWork): void {
    if (repeat !== this.#repeat) this.#finished = [];
    this.#repeat = repeat;
    this.#finished.push(work);
    this.#wholeMs = this.#doneMs() + (this.#aheadMs() ?? 0);
  }

  /** @returns null while nothing is known */
  leftMs(repeat: number, repeats: number): number | null {
    if (this.#wholeMs === null) return null;
    // Another policy may have begun the repeat.
    const ahead = repeat === this.#repeat ? (this.#aheadMs() ?? 0) : this.#wholeMs;
    return ahead + (repeats - 1 - repeat) * this.#wholeMs;
  }

  #doneMs(): number {
    return sum(this.#finished.map(({ engineMicros }) => engineMicros)) / 1_000;
  }

  #aheadMs(): number | null {
    const nextToken = this.#finished.at(-1)?.endToken ?? 0;
    const { totalTokens, law } = this;
    const finished = this.#finished;
    return remainingPrefillMs({ finished, running: null, nextToken, totalTokens, sparse: law });
  }
}

/** Where the last chunk ends that runs. */
function lastToken(tokens: number, untilToken: number): number {
  const chunks = planPrefillChunks(tokens, BENCH_CUT_RULE);
  return chunks.findLast(({ beginToken }) => beginToken < untilToken)?.endToken ?? 0;
}
