import type { Command } from 'commander';
import { ServingError } from '../../domain/serving-error.js';
import type { EvalSubject } from '../eval/run/eval-subject.js';
import { taskSubject } from '../eval/run/task-subject.js';
import { RULER_TASKS } from '../eval/tasks/task-list.js';
import {
  addGeneratedOptions,
  addTextOptions,
  type GeneratedFlags,
  wordList,
} from './eval-options.js';
import { evaluate } from './evaluate.js';
import { integerFrom } from './option-parsers.js';

interface RulerFlags extends GeneratedFlags {
  readonly tasks?: readonly string[];
  readonly questionsPerDocument?: number;
  readonly squad?: string;
  readonly hotpot?: string;
}

const RULER_EXAMPLES = `
Tasks: ${RULER_TASKS.join(', ')}.
Without --tasks all run whose files are given: qa_1 needs --squad, qa_2 --hotpot.

Examples:
  longshadow eval ruler --lengths 4K,8K,16K,32K --documents 100 --out runs/ruler
  longshadow eval ruler --tasks qa_1 --squad dev-v2.0.json --lengths 8K --out runs/qa`;

/** `longshadow eval ruler`. */
export function addRuler(parent: Command): void {
  const command = parent
    .command('ruler')
    .description("RULER's 13 tasks (arXiv:2404.06654), generated at any length");
  addTextOptions(addGeneratedOptions(command, 100))
    .option('--tasks <list>', 'some of them', wordList)
    .option(
      '--questions-per-document <count>',
      'of one prefilled document, each asked in a fork of it; default: 1, asked whole as RULER does',
      integerFrom(1),
    )
    .option('--squad <file>', 'SQuAD JSON, for qa_1')
    .option('--hotpot <file>', 'HotpotQA distractor JSON, for qa_2')
    .addHelpText('after', RULER_EXAMPLES)
    .action(async (flags: RulerFlags) => {
      const { squad, hotpot } = flags;
      const unknown = flags.tasks?.find((task) => !RULER_TASKS.includes(task));
      if (unknown !== undefined) {
        const known = RULER_TASKS.join(', ');
        throw new ServingError('BAD_REQUEST', `RULER has no task ${unknown}; it has ${known}`);
      }
      const possible = RULER_TASKS.filter(
        (task) =>
          !(task === 'qa_1' && squad === undefined) && !(task === 'qa_2' && hotpot === undefined),
      );
      await evaluate(flags, async () => generated('ruler', flags.tasks ?? possible, flags));
    });
}

interface NeedleFlags extends GeneratedFlags {
  readonly depths: number;
}

const NEEDLE_EXAMPLES = `
Examples:
  longshadow eval needle --lengths 4K,32K,128K --depths 10 --documents 10 --out runs/needle
  longshadow eval needle --lengths 1M --documents 1 --depths 100 --concurrency 8 --out runs/million`;

/** `longshadow eval needle`. */
export function addNeedle(parent: Command): void {
  const command = parent
    .command('needle')
    .description('A number at each depth of a text: accuracy by length and depth');
  addTextOptions(addGeneratedOptions(command, 10))
    .option('--depths <count>', 'questions of a document, from 0 to 100 % deep', integerFrom(1), 10)
    .addHelpText('after', NEEDLE_EXAMPLES)
    .action(async (flags: NeedleFlags) => {
      await evaluate(flags, async () => generated('needle', ['needle'], flags));
    });
}

const MIDPROMPT_EXAMPLES = `
Examples:
  longshadow eval midprompt --lengths 4K,32K --out runs/midprompt
  longshadow eval midprompt --lengths 128K --questions-per-document 32 --documents 4 --out runs/mid`;

/** `longshadow eval midprompt`. */
export function addMidprompt(parent: Command): void {
  const command = parent
    .command('midprompt')
    .description('Questions inside the text, scored where their answers stand');
  addTextOptions(addGeneratedOptions(command, 10))
    .option(
      '--questions-per-document <count>',
      'inside one text, which is read once; default: as many as have room, up to 16',
      integerFrom(1),
    )
    .addHelpText('after', MIDPROMPT_EXAMPLES)
    .action(async (flags: GeneratedFlags) => {
      await evaluate(flags, async () => generated('midprompt', ['midprompt'], flags));
    });
}

interface PerplexityFlags extends GeneratedFlags {
  readonly texts?: string;
}

const PERPLEXITY_EXAMPLES = `
One pass: every token is scored with the whole text before it. Measures prefill, not decode.

Examples:
  longshadow eval ppl --lengths 4K,32K --documents 5 --out runs/ppl
  longshadow eval ppl --texts pg19/test --lengths 128K --out runs/pg19`;

/** `longshadow eval ppl`. */
export function addPerplexity(parent: Command): void {
  const command = parent.command('ppl').description('Perplexity of long texts, by position');
  addGeneratedOptions(command, 5)
    .option('--texts <folder>', 'folder of .txt files; default: Moby Dick')
    .addHelpText('after', PERPLEXITY_EXAMPLES)
    .action(async (flags: PerplexityFlags) => {
      await evaluate(flags, async () => generated('ppl', ['ppl'], flags));
    });
}

type AllGenerated = GeneratedFlags &
  Partial<RulerFlags> &
  Partial<NeedleFlags> &
  Partial<PerplexityFlags>;

async function generated(
  benchmark: string,
  tasks: readonly string[],
  flags: AllGenerated,
): Promise<EvalSubject> {
  const { lengths, documents, seed, questionsPerDocument, depths } = flags;
  const { haystack, words, squad, hotpot, texts } = flags;
  return taskSubject({
    ...{ benchmark, tasks, lengths, documents, seed },
    ...(questionsPerDocument === undefined ? {} : { questionsPerDocument }),
    ...(depths === undefined ? {} : { depths }),
    files: {
      ...(haystack === undefined ? {} : { haystackFile: haystack }),
      ...(words === undefined ? {} : { wordsFolder: words }),
      ...(squad === undefined ? {} : { squadFile: squad }),
      ...(hotpot === undefined ? {} : { hotpotFile: hotpot }),
      ...(texts === undefined ? {} : { textFolder: texts }),
    },
  });
}
