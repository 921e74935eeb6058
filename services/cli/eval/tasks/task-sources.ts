import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ServingError } from '../../../domain/serving-error.js';
import { readBook } from '../../text/book.js';
import { ProseHaystack } from './haystack.js';
import { type QuestionSet, readHotpot, readSquad } from './ruler/qa-data.js';
import { packagedWords, wonderwordsOf, type WordLists } from './words.js';

/** What a task reads besides its own table. */
export type TaskNeed = 'words' | 'haystack' | 'squad' | 'hotpot' | 'texts';

/** Where a user's own material lies; what is unset has a default, or is refused when needed. */
export interface TaskFiles {
  /** Folder with wonderwords' lists; default: the words of an npm package. */
  readonly wordsFolder?: string;
  /** Text file to hide needles in; default: Moby Dick. */
  readonly haystackFile?: string;
  /** SQuAD JSON, for qa_1. No default. */
  readonly squadFile?: string;
  /** HotpotQA distractor JSON, for qa_2. No default. */
  readonly hotpotFile?: string;
  /** Folder of .txt files, for ppl; default: Moby Dick. */
  readonly textFolder?: string;
}

/** A text whose perplexity is wanted. */
export interface NamedText {
  readonly name: string;
  readonly text: string;
}

/**
 * Everything that tasks read, each read once, when it is first wanted.
 *
 * All methods throw ServingError BAD_REQUEST, which names the file and what it must be.
 */
export class TaskSources {
  #words: WordLists | undefined;
  #haystack: ProseHaystack | undefined;
  #squad: QuestionSet | undefined;
  #hotpot: QuestionSet | undefined;
  #texts: readonly NamedText[] | undefined;

  constructor(private readonly files: TaskFiles) {}

  words(): WordLists {
    const folder = this.files.wordsFolder;
    this.#words ??= folder === undefined ? packagedWords() : wonderwordsOf(folder);
    return this.#words;
  }

  haystack(): ProseHaystack {
    const file = this.files.haystackFile;
    this.#haystack ??=
      file === undefined
        ? new ProseHaystack(readBook(), 'the book')
        : new ProseHaystack(readText(file, 'haystack'), file);
    return this.#haystack;
  }

  squad(): QuestionSet {
    this.#squad ??= readSquad(named(this.files.squadFile, 'qa_1', 'SQuAD (dev-v2.0.json)'));
    return this.#squad;
  }

  hotpot(): QuestionSet {
    const what = 'HotpotQA (hotpot_dev_distractor_v1.json)';
    this.#hotpot ??= readHotpot(named(this.files.hotpotFile, 'qa_2', what));
    return this.#hotpot;
  }

  texts(): readonly NamedText[] {
    const folder = this.files.textFolder;
    this.#texts ??=
      folder === undefined ? [{ name: 'moby-dick', text: readBook() }] : readFolder(folder);
    return this.#texts;
  }

  /** Reads what a task will need, so that a wrong path is refused before a run begins. */
  check(needs: readonly TaskNeed[]): void {
    for (const need of needs) this[need]();
  }
}

function named(file: string | undefined, task: string, what: string): string {
  if (file !== undefined) return file;
  throw new ServingError('BAD_REQUEST', `${task} needs the file of ${what}: name its path`);
}

function readFolder(folder: string): NamedText[] {
  let names: string[];
  try {
    names = readdirSync(folder).filter((name) => name.endsWith('.txt'));
  } catch (error) {
    throw unreadable(folder, 'text folder', error);
  }
  if (names.length === 0) throw new ServingError('BAD_REQUEST', `${folder} holds no .txt file`);
  return names.sort().map((name) => ({ name, text: readText(join(folder, name), 'text') }));
}

function readText(path: string, what: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw unreadable(path, what, error);
  }
}

function unreadable(path: string, what: string, cause: unknown): ServingError {
  return new ServingError('BAD_REQUEST', `cannot read the ${what} ${path}`, {}, { cause });
}
