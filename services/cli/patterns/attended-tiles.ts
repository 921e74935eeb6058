import type { HeadKeys } from '../../../native/ts/index.js';
import { TILE_TOKENS } from '../../domain/head-pattern.js';

/** What a head's query blocks attended to, in tiles of 64 queries x 64 keys. */
export class AttendedTiles {
  /** Row by row, tile [block][key block] at block * (block + 1) / 2 + key block; keys, 0 to 64. */
  readonly #keys: Uint8Array;

  /** @param blocks query blocks of the whole prompt; those that nothing is added for saw no key */
  constructor(readonly blocks: number) {
    this.#keys = new Uint8Array((blocks * (blocks + 1)) / 2);
  }

  /** Adds a chunk's query blocks. */
  add({ beginToken, rangeOffsets, ranges, columnOffsets, columns }: HeadKeys): void {
    for (let at = 0; at + 1 < rangeOffsets.length; at += 1) {
      const block = beginToken / TILE_TOKENS + at;
      for (let run = rangeOffsets[at] ?? 0; run < (rangeOffsets[at + 1] ?? 0); run += 1) {
        this.#addRun(block, ranges[2 * run] ?? 0, ranges[2 * run + 1] ?? 0);
      }
      for (let one = columnOffsets[at] ?? 0; one < (columnOffsets[at + 1] ?? 0); one += 1) {
        const key = columns[one] ?? 0;
        this.#addRun(block, key, key + 1);
      }
    }
  }

  /** All keys of the query blocks from one on. */
  addDense(fromBlock: number): void {
    for (let block = fromBlock; block < this.blocks; block += 1) {
      this.#addRun(block, 0, (block + 1) * TILE_TOKENS);
    }
  }

  /**
   * The same in at most `most` rows: [row][column], column <= row, shares of keys from 0 to 1. A cell
   * stands for as many tiles in each direction; those past the diagonal do not count.
   */
  shares(most: number): number[][] {
    const step = Math.ceil(this.blocks / most);
    return Array.from({ length: Math.ceil(this.blocks / step) }, (_, row) =>
      Array.from({ length: row + 1 }, (__, column) => this.#share(row * step, column * step, step)),
    );
  }

  #share(firstBlock: number, firstKeyBlock: number, step: number): number {
    let [keys, tiles] = [0, 0];
    for (let block = firstBlock; block < Math.min(firstBlock + step, this.blocks); block += 1) {
      const end = Math.min(firstKeyBlock + step, block + 1);
      for (let keyBlock = firstKeyBlock; keyBlock < end; keyBlock += 1) {
        keys += this.#keys[place(block, keyBlock)] ?? 0;
        tiles += 1;
      }
    }
    return keys / (tiles * TILE_TOKENS);
  }

  #addRun(block: number, begin: number, end: number): void {
    for (let key = begin; key < end;) {
      const keyBlock = Math.floor(key / TILE_TOKENS);
      const next = Math.min((keyBlock + 1) * TILE_TOKENS, end);
      const at = place(block, keyBlock);
      this.#keys[at] = (this.#keys[at] ?? 0) + next - key;
      key = next;
    }
  }
}

function place(block: number, keyBlock: number): number {
  return (block * (block + 1)) / 2 + keyBlock;
}
