import type { Candidate } from './candidates.js';
import { controlPlace, defaultPlace } from './candidates.js';
import {
  choosePatterns,
  headDensities,
  headErrors,
  type HeadChoice,
  type TrialShape,
} from './choose-patterns.js';
import type { TrialSums } from './trial-sums.js';

/** Mean relative error of a row, and share of dense attention's keys. */
export interface ErrorAt {
  readonly error: number;
  readonly density: number;
}

/** How chosen and uniform patterns do on prompts that the choice has not seen. */
export interface HeldOutLine {
  /** Null: over all layers. */
  readonly layer: number | null;
  readonly chosen: ErrorAt;
  /** What a model without a pattern file has. */
  readonly standard: ErrorAt;
  /** A window at the same cost. */
  readonly control: ErrorAt;
}

/** How often a pattern was chosen, and how it does on the calibration prompts over all heads. */
export interface PatternLine extends ErrorAt {
  readonly name: string;
  readonly heads: number;
}

/** What a search found. */
export interface SearchSummary {
  readonly choices: readonly HeadChoice[];
  readonly patterns: readonly PatternLine[];
  /** Layers in order, then all; empty without held-out prompts. */
  readonly heldOut: readonly HeldOutLine[];
  /** Heads of which two patterns that find keys by content do equally well. */
  readonly closeHeads: number;
}

export function summariseSearch(
  calibration: TrialSums,
  heldOut: TrialSums,
  shape: TrialShape,
): SearchSummary {
  const choices = choosePatterns(calibration, shape);
  return {
    choices,
    patterns: shape.candidates.map(({ name }, at) => ({
      name,
      heads: choices.filter(({ candidate }) => candidate === at).length,
      ...meanOf(
        calibration,
        shape,
        choices.map((choice) => ({ ...choice, candidate: at })),
      ),
    })),
    heldOut: heldOut.rows === 0 ? [] : heldOutLines(heldOut, shape, choices),
    closeHeads: choices.filter(({ isClose }) => isClose).length,
  };
}

function heldOutLines(
  sums: TrialSums,
  shape: TrialShape,
  choices: readonly HeadChoice[],
): HeldOutLine[] {
  const layers: (number | null)[] = Array.from({ length: shape.layers }, (_, layer) => layer);
  return [...layers, null].map((layer) => {
    const own = choices.filter((choice) => layer === null || choice.layer === layer);
    const all = (find: (candidates: readonly Candidate[]) => number): ErrorAt => {
      const candidate = find(shape.candidates);
      return meanOf(
        sums,
        shape,
        own.map((choice) => ({ ...choice, candidate })),
      );
    };
    return {
      layer,
      chosen: meanOf(sums, shape, own),
      standard: all(defaultPlace),
      control: all(controlPlace),
    };
  });
}

/** Over heads, each with one candidate. */
function meanOf(
  sums: TrialSums,
  shape: TrialShape,
  heads: readonly Pick<HeadChoice, 'layer' | 'head' | 'candidate'>[],
): ErrorAt {
  const mean = (of: typeof headErrors): number =>
    heads.reduce((sum, { layer, head, candidate }) => {
      const place = layer * shape.queryHeads + head;
      return sum + (of(sums, shape, place)[candidate] ?? 0);
    }, 0) / heads.length;
  return { error: mean(headErrors), density: mean(headDensities) };
}
