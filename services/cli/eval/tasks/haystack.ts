import { ServingError } from '../../../domain/serving-error.js';

/** A word that ends a sentence, closing quotes included. */
const SENTENCE_END = /[.!?]["'”’)\]]*$/;
const ABBREVIATION = /^["'“‘([]*(?:Mr|Mrs|Ms|Dr|St|Messrs|Capt|Col|Gen|Prof|Rev|[A-Z])\.$/;

/** Prose to hide things in: words, white space collapsed, over and over. */
export class ProseHaystack {
  readonly #words: readonly string[];
  readonly #endsSentence: readonly boolean[];

  /** @throws ServingError BAD_REQUEST on a text without words */
  constructor(text: string, source: string) {
    this.#words = text.split(/\s+/).filter((word) => word !== '');
    if (this.#words.length === 0) {
      throw new ServingError('BAD_REQUEST', `${source} holds no words to hide needles in`);
    }
    this.#endsSentence = this.#words.map(
      (word) => SENTENCE_END.test(word) && !ABBREVIATION.test(word),
    );
  }

  /** Before the text repeats. */
  get wordCount(): number {
    return this.#words.length;
  }

  /** The first word of the sentence after word `at`; 0 if none follows. */
  sentenceStartAfter(at: number): number {
    const end = this.#endsSentence.indexOf(true, at);
    return end < 0 ? 0 : (end + 1) % this.#words.length;
  }

  /** `count` words from word `from` on, joined with spaces. */
  words(from: number, count: number): string {
    const taken: string[] = [];
    for (let at = from; at < from + count; at += 1) taken.push(this.#word(at));
    return taken.join(' ');
  }

  /** The same words, cut into sentences; the last may be broken off. */
  sentences(from: number, count: number): string[] {
    const sentences: string[] = [];
    let sentence: string[] = [];
    for (let at = from; at < from + count; at += 1) {
      sentence.push(this.#word(at));
      if (this.#endsSentence[at % this.#words.length] !== true) continue;
      sentences.push(sentence.join(' '));
      sentence = [];
    }
    if (sentence.length > 0) sentences.push(sentence.join(' '));
    return sentences;
  }

  /** True if the text holds `piece`: a needle must not stand there by accident. */
  holds(piece: string): boolean {
    this.#joined ??= this.#words.join(' ');
    return this.#joined.includes(piece);
  }

  #joined: string | undefined;

  #word(at: number): string {
    return this.#words[at % this.#words.length] as string;
  }
}
