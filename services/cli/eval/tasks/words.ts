import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { ServingError } from '../../../domain/serving-error.js';

/** English words for keys and for lists. */
export interface WordLists {
  readonly adjectives: readonly string[];
  readonly nouns: readonly string[];
  readonly verbs: readonly string[];
  /** Many more, rare ones too, for lists that outgrow the three. */
  readonly more: () => readonly string[];
}

/** Plain words only: a key must read the same to every tokenizer and scorer. */
const PLAIN_WORD = /^[a-z]{3,12}$/;

/** Common words by their most frequent part of speech, and WordNet's, from wink-lexicon (MIT). */
export function packagedWords(): WordLists {
  const require = createRequire(import.meta.url);
  const common = require('wink-lexicon/src/lexicon.js') as Record<string, string[]>;
  const wordNet = require('wink-lexicon/src/wn-words.js') as Record<string, number>;
  // WordNet holds base forms alone, so that "see", "seen" and "sees" do not stand side by side.
  const plain = Object.keys(common).filter((word) => PLAIN_WORD.test(word) && word in wordNet);
  const of = (tag: string): string[] => plain.filter((word) => common[word]?.[0] === tag).sort();
  return {
    adjectives: of('JJ'),
    nouns: of('NN'),
    verbs: of('VB'),
    more: () =>
      Object.keys(wordNet)
        .filter((word) => PLAIN_WORD.test(word))
        .sort(),
  };
}

/**
 * The lists of the wonderwords package, which RULER uses, from a folder with its adjectivelist.txt,
 * nounlist.txt and verblist.txt.
 *
 * @throws ServingError BAD_REQUEST if one is missing or empty
 */
export function wonderwordsOf(folder: string): WordLists {
  const read = (name: string): string[] => readWordList(join(folder, name));
  return {
    adjectives: read('adjectivelist.txt'),
    nouns: read('nounlist.txt'),
    verbs: read('verblist.txt'),
    more: packagedWords().more,
  };
}

function readWordList(path: string): string[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new ServingError(
      'BAD_REQUEST',
      `cannot read ${path}: the folder of words must hold adjectivelist.txt, nounlist.txt and verblist.txt`,
      {},
      { cause: error },
    );
  }
  const lines = text.split('\n').map((line) => line.trim());
  const words = [...new Set(lines.filter((line) => line !== ''))];
  if (words.length === 0) throw new ServingError('BAD_REQUEST', `${path} holds no words`);
  return words;
}
