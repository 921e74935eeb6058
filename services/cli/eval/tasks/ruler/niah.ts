import type { EvalDocument, EvalQuestion } from '../../eval-types.js';
import type { SeededRandom } from '../../../text/seeded-random.js';
import { chatDocument, documentRandom, fillTemplate, fitDocument } from '../document-draft.js';
import { NeedleDraw, overlaps } from '../draw-needles.js';
import type { TaskRequest } from '../task-types.js';
import { niahHaystack } from './niah-haystack.js';
import { joinQueries, needleSentence, type NiahParameters, niahWording } from './templates.js';

interface Key {
  readonly key: string;
  readonly values: readonly string[];
}

/** What one question is about. */
interface NeedleSet {
  readonly keys: readonly Key[];
  readonly asked: readonly Key[];
}

/** A document of one of RULER's needle tasks, with as many needle sets as questions. */
export async function makeNiah(
  task: string,
  kind: NiahParameters,
  request: TaskRequest,
): Promise<EvalDocument> {
  const random = documentRandom(task, request);
  const sets = drawSets(kind, request, random);
  const keys = sets.flatMap((set) => set.keys);
  const needles = random.shuffle(
    keys.flatMap(({ key, values }) =>
      values.map((value) => needleSentence(kind.valueKind, key, value)),
    ),
  );
  const taken = keys.flatMap(({ key, values }) => [key, ...values]);
  const haystack = niahHaystack(kind, needles, taken, request.sources, random);
  const wording = niahWording(kind.valueKind, kind.queries * kind.valuesPerKey);
  const fitted = await fitDocument(
    task,
    request,
    sets.map((set, at) => question(set, at, kind, {})),
    {
      leastUnits: 1,
      mostUnits: Infinity,
      build: (units) => fillTemplate(wording.document, { context: haystack.hide(units) }),
      added: (from, to) => haystack.added(from, to),
    },
  );
  const questions = sets.map((set, at) => {
    const facts = { needles: needles.length, ...depthOf(set) };
    return question(set, at, kind, facts);
  });
  return chatDocument(task, request, fitted.text, questions);

  /** Only a single needle has one depth. */
  function depthOf({ asked }: NeedleSet): { depthPercent?: number } {
    const [first] = asked;
    if (first === undefined || asked.length * first.values.length !== 1) return {};
    const at = needles.findIndex((needle) => needle.includes(` for ${first.key} is:`));
    return { depthPercent: haystack.depthPercent(at, fitted.units) };
  }
}

function drawSets(kind: NiahParameters, request: TaskRequest, random: SeededRandom): NeedleSet[] {
  const { sources, questionsPerDocument = 1 } = request;
  const drawn: string[] = [];
  const isTaken = (text: string): boolean =>
    drawn.some((other) => overlaps(text, other)) ||
    (kind.haystack === 'essay' && sources.haystack().holds(text));
  const draw = new NeedleDraw(random, sources.words(), isTaken);
  const next = (of: 'keyKind' | 'valueKind'): string => {
    const text = draw.next(kind[of]);
    drawn.push(text);
    return text;
  };
  return Array.from({ length: questionsPerDocument }, () => {
    const keys = Array.from({ length: kind.keys }, () => ({
      key: next('keyKind'),
      values: Array.from({ length: kind.valuesPerKey }, () => next('valueKind')),
    }));
    return { keys, asked: random.sample(keys, kind.queries) };
  });
}

function question(
  { asked }: NeedleSet,
  at: number,
  kind: NiahParameters,
  facts: EvalQuestion['facts'],
): EvalQuestion {
  const wording = niahWording(kind.valueKind, kind.queries * kind.valuesPerKey);
  const query = joinQueries(asked.map(({ key }) => key));
  return {
    id: `q${String(at)}`,
    questionText: fillTemplate(wording.question, { query }),
    answerPrefix: fillTemplate(wording.answerPrefix, { query }),
    references: asked.flatMap(({ values }) => values),
    metric: 'string_match_all',
    maxNewTokens: wording.maxNewTokens,
    facts,
  };
}
