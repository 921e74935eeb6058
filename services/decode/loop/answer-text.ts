import { Detokenizer, type TokenDecoder } from './detokenize.js';
import { StopMatcher, type StopMatch } from './stop-matcher.js';

/** The text of one answer as its tokens come: whole characters, and nothing of a stop text. */
export class AnswerText {
  readonly #detokenizer: Detokenizer;
  readonly #stops: StopMatcher;

  constructor(decoder: TokenDecoder, stopTexts: readonly string[]) {
    this.#detokenizer = new Detokenizer(decoder);
    this.#stops = new StopMatcher(stopTexts);
  }

  push(tokenId: number): StopMatch {
    return this.#stops.push(this.#detokenizer.push(tokenId));
  }

  /** What was held back, once no token follows. It may complete a stop text. */
  end(): StopMatch {
    const match = this.#stops.push(this.#detokenizer.flush());
    return match.stopped ? match : { text: match.text + this.#stops.flush(), stopped: false };
  }
}
