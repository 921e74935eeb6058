import type { EvalDocument, EvalQuestion, TokenCounter } from '../../eval-types.js';
import type { SeededRandom } from '../../../text/seeded-random.js';
import { chatDocument, documentRandom, fillTemplate, fitDocument } from '../document-draft.js';
import { fitUnits } from '../fit-length.js';
import { distinctPlaces, drawFractions, placeLines } from '../place-lines.js';
import type { TaskRequest } from '../task-types.js';
import { NOISE_SENTENCE, VT_HOPS, VT_WORDING } from './templates.js';

/** The worked example in front is made to this length, tokens. */
const EXAMPLE_TOKENS = 500;
const EXAMPLE_NAME_LETTERS = 3;
const NAME_LETTERS = 5;

/** Variables that hold one value, the first by a number, each other by the one before. */
interface Chain {
  readonly value: string;
  readonly names: readonly string[];
  /** Places of its lines, ascending fractions of the text. */
  readonly fractions: readonly number[];
}

/** RULER's variable tracking, with as many chains as questions. */
export async function makeVariableTracking(
  task: string,
  request: TaskRequest,
): Promise<EvalDocument> {
  const random = documentRandom(task, request);
  const taken = new Set<string>();
  const example = await workedExample(drawChain(random, EXAMPLE_NAME_LETTERS, taken), request);
  const count = request.questionsPerDocument ?? 1;
  const chains = Array.from({ length: count }, () => drawChain(random, NAME_LETTERS, taken));
  const questions = chains.map(question);
  const fitted = await fitDocument(task, request, questions, {
    ...noiseUnits,
    build: (units) =>
      example + fillTemplate(VT_WORDING.document, { context: hideChains(chains, units) }),
  });
  return chatDocument(task, request, fitted.text, questions);
}

const noiseUnits = {
  leastUnits: 1,
  mostUnits: Infinity,
  added: (from: number, to: number): string => `${NOISE_SENTENCE}\n`.repeat(to - from),
};

/** A whole small task with its answer, and the empty line after it. */
async function workedExample(chain: Chain, { counter }: { counter: TokenCounter }) {
  const { questionText, answerPrefix } = question(chain, 0);
  const asked = `${questionText}${answerPrefix}`;
  const { text } = await fitUnits(
    {
      ...noiseUnits,
      build: (units) =>
        fillTemplate(VT_WORDING.document, { context: hideChains([chain], units) }) + asked,
    },
    EXAMPLE_TOKENS,
    counter,
  );
  return `${text} ${chain.names.join(' ')}\n\n`;
}

function question({ value, names }: Chain, at: number): EvalQuestion {
  const values = { query: value, num_v: String(names.length) };
  return {
    id: `q${String(at)}`,
    questionText: fillTemplate(VT_WORDING.question, values),
    answerPrefix: fillTemplate(VT_WORDING.answerPrefix, values),
    references: names,
    metric: 'string_match_all',
    maxNewTokens: VT_WORDING.maxNewTokens,
    facts: { hops: VT_HOPS },
  };
}

function hideChains(chains: readonly Chain[], units: number): string {
  const placed = chains.flatMap((chain) => {
    const places = distinctPlaces(chain.fractions, units);
    return chainLines(chain).map((line, at) => ({ place: places[at] ?? 0, line }));
  });
  const noise = new Array<string>(units).fill(NOISE_SENTENCE);
  return placeLines(noise, placed).join('\n');
}

/** In RULER, too, a line that names a variable ends with a space. */
function chainLines({ value, names }: Chain): string[] {
  return names.map((name, at) =>
    at === 0 ? `VAR ${name} = ${value}` : `VAR ${name} = VAR ${names[at - 1] ?? ''} `,
  );
}

/** @param taken names and values so far: all of one document differ */
function drawChain(random: SeededRandom, letters: number, taken: Set<string>): Chain {
  const fresh = (draw: () => string): string => {
    let text = draw();
    while (taken.has(text)) text = draw();
    taken.add(text);
    return text;
  };
  const letter = (): string => String.fromCharCode(65 + random.integer(0, 26));
  const name = (): string => Array.from({ length: letters }, letter).join('');
  return {
    value: fresh(() => String(random.integer(10_000, 100_000))),
    names: Array.from({ length: VT_HOPS + 1 }, () => fresh(name)),
    fractions: drawFractions(random, VT_HOPS + 1),
  };
}
