/**
 * Rows of one sequence that the engine scores as single ones: with at most so many in a call, a row
 * has the bits that it has alone; with more, others, and the same ones for any number.
 * (kDecodeRows of native/backend/cpu/attention.cc.)
 */
export const FEW_ROWS = 4;
/** Longer calls may be cut at multiples of this inside the engine; native/src/engine/row_blocks.h. */
const ENGINE_BLOCK_ROWS = 64;
const NO_ROWS = new Uint32Array(0);

/** Rows that belong together: a turn's tokens, which run many at a time, or an answer's, which do not. */
interface Run {
  readonly kind: 'prompt' | 'answer';
  rows: Uint32Array;
}

/**
 * The tokens of a session that the model has not seen, in order. However they are cut into steps, and
 * whether they run for the first time or again after their decode died, a row gets the same bits:
 * those of an answer were sampled one by one, so they run as few rows; those of a turn as many.
 */
export class PendingRows {
  #runs: Run[] = [];

  get length(): number {
    return this.#runs.reduce((sum, { rows }) => sum + rows.length, 0);
  }

  /** Tokens that were sampled, now or by another decode. */
  addAnswer(tokenIds: Uint32Array): void {
    if (tokenIds.length > 0) this.#runs.push({ kind: 'answer', rows: tokenIds });
  }

  /** Tokens of a turn. The last token of the answer before it runs with them. */
  addPrompt(tokenIds: Uint32Array): void {
    const last = this.#runs.at(-1);
    if (last === undefined || tokenIds.length === 0) {
      if (tokenIds.length > 0) this.#runs.push({ kind: 'prompt', rows: tokenIds });
      return;
    }
    const shared = last.kind === 'prompt' ? last.rows.length : 1;
    const rows = new Uint32Array(shared + tokenIds.length);
    rows.set(last.rows.subarray(last.rows.length - shared));
    rows.set(tokenIds, shared);
    last.rows = last.rows.subarray(0, last.rows.length - shared);
    if (last.rows.length === 0) this.#runs.pop();
    this.#runs.push({ kind: 'prompt', rows });
  }

  /** Rows that the next step takes. */
  nextCount(maxRows: number): number {
    const run = this.#runs[0];
    if (run === undefined) return 0;
    const rows = run.rows.length;
    if (run.kind === 'answer') return Math.min(rows, FEW_ROWS, maxRows);
    return promptRows(rows, maxRows);
  }

  /** The next rows, without taking them. */
  peek(count: number): Uint32Array {
    return this.#runs[0]?.rows.slice(0, count) ?? NO_ROWS;
  }

  /** The row that follows the next `count`; undefined if none does. */
  after(count: number): number | undefined {
    const [run, next] = this.#runs;
    return run === undefined || count < run.rows.length ? run?.rows[count] : next?.rows[0];
  }

  take(count: number): void {
    const run = this.#runs[0];
    if (run === undefined) return;
    run.rows = run.rows.subarray(count);
    if (run.rows.length === 0) this.#runs.shift();
  }
}

/** As many rows of a turn as fit, but never so that few remain for a later call or engine block. */
function promptRows(rows: number, maxRows: number): number {
  const rest = rows % ENGINE_BLOCK_ROWS;
  const isShort = rest > 0 && rest <= FEW_ROWS && rows > FEW_ROWS;
  if (isShort && rows - rest <= maxRows) return rows - rest - FEW_ROWS;
  return Math.min(rows, maxRows);
}
