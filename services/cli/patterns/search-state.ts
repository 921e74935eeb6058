import { readFile, rm } from 'node:fs/promises';
import { z } from 'zod';
import { ServingError } from '../../domain/serving-error.js';
import { describeError } from '../output/describe-error.js';
import { writeWhole } from '../output/write-whole.js';
import { addSums, noTrials, type TrialSums } from './trial-sums.js';

/** What a state belongs to: another plan's sums are of no use. Names are as a user knows them. */
export type SearchPlan = Readonly<Record<string, string | number>>;

const numbers = z.array(z.number());
const sums = z.object({
  rows: z.number(),
  causalKeys: z.number(),
  errors: numbers,
  attendedKeys: numbers,
});
const stored = z.object({
  plan: z.record(z.string(), z.union([z.string(), z.number()])),
  finishedPrompts: z.number().int().min(0),
  calibration: sums,
  heldOut: sums,
});
type Stored = z.infer<typeof stored>;

/** How far a search is: kept beside its result after every prompt. */
export class SearchState {
  #now: Stored;

  private constructor(
    readonly path: string,
    now: Stored,
  ) {
    this.#now = now;
  }

  /**
   * Goes on with the state that an earlier search of the same plan left, or begins.
   *
   * @param outFile the search's result; the state lies beside it
   * @param places length of the sums' lists
   * @param fresh forget what is there
   * @throws ServingError BAD_REQUEST for a state of another plan, one that is none, or a folder that
   *   cannot be written
   */
  static async open(
    outFile: string,
    plan: SearchPlan,
    places: number,
    fresh: boolean,
  ): Promise<SearchState> {
    const path = `${outFile}.search`;
    const found = fresh ? null : await readState(path);
    // A state without a prompt binds nobody: the search may have been refused since.
    const before = found === null || found.finishedPrompts === 0 ? null : found;
    if (before !== null) refuseAnother(path, before, plan, places);
    const none = noTrials(places);
    const state = new SearchState(
      path,
      before ?? toStored({ plan, finishedPrompts: 0, calibration: none, heldOut: none }),
    );
    // Now rather than after the first prompt: a folder that cannot be written is known at once.
    await state.#write();
    return state;
  }

  get finishedPrompts(): number {
    return this.#now.finishedPrompts;
  }

  get calibration(): TrialSums {
    return this.#now.calibration;
  }

  get heldOut(): TrialSums {
    return this.#now.heldOut;
  }

  /** The next prompt is through. */
  async add(isHeldOut: boolean, prompt: TrialSums): Promise<void> {
    const { calibration, heldOut, plan, finishedPrompts } = this.#now;
    this.#now = toStored({
      ...{ plan, finishedPrompts: finishedPrompts + 1 },
      calibration: isHeldOut ? calibration : addSums(calibration, prompt),
      heldOut: isHeldOut ? addSums(heldOut, prompt) : heldOut,
    });
    await this.#write();
  }

  /** For a search that is through, or that never came to its first prompt's end. */
  async remove(): Promise<void> {
    await rm(this.path, { force: true });
  }

  async #write(): Promise<void> {
    await writeWhole(this.path, `${JSON.stringify(this.#now)}\n`);
  }
}

interface State {
  readonly plan: SearchPlan;
  readonly finishedPrompts: number;
  readonly calibration: TrialSums;
  readonly heldOut: TrialSums;
}

function toStored({ plan, finishedPrompts, calibration, heldOut }: State): Stored {
  const lists = ({ rows, causalKeys, errors, attendedKeys }: TrialSums): Stored['heldOut'] => ({
    ...{ rows, causalKeys, errors: [...errors], attendedKeys: [...attendedKeys] },
  });
  return {
    ...{ plan: { ...plan }, finishedPrompts },
    ...{ calibration: lists(calibration), heldOut: lists(heldOut) },
  };
}

/** Null where there is none. */
async function readState(path: string): Promise<Stored | null> {
  try {
    return stored.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    const why = error instanceof z.ZodError ? 'fields are missing' : describeError(error);
    throw new ServingError(
      'BAD_REQUEST',
      `${path} is not the state of a search (${why}): begin anew with --fresh, or give another --out`,
    );
  }
}

function refuseAnother(path: string, state: Stored, plan: SearchPlan, places: number): void {
  const before = state.plan;
  const names = [...new Set([...Object.keys(plan), ...Object.keys(before)])];
  const differences = names
    .filter((name) => before[name] !== plan[name])
    .map((name) => `${name} ${String(before[name])}, not ${String(plan[name])}`);
  if (sumsLists(state).some(({ length }) => length !== places)) {
    differences.push('another number of heads');
  }
  if (differences.length === 0) return;
  throw new ServingError(
    'BAD_REQUEST',
    `${path} is the state of another search: ${differences.join('; ')}. ` +
      'Begin anew with --fresh, go on with the options of that search, or give another --out',
  );
}

function sumsLists({ calibration, heldOut }: Stored): (readonly number[])[] {
  return [calibration, heldOut].flatMap(({ errors, attendedKeys }) => [errors, attendedKeys]);
}
