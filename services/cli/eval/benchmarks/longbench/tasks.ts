import { z } from 'zod';
import type { MetricName } from '../../eval-types.js';
import type { BenchmarkSample, BenchmarkTask } from '../benchmark-types.js';
import { LONGBENCH_PROMPTS } from './prompts.js';

type TaskName = keyof typeof LONGBENCH_PROMPTS;

/** New tokens and score, as published. */
const KINDS: Readonly<Record<TaskName, readonly [maxNewTokens: number, metric: MetricName]>> = {
  narrativeqa: [128, 'qa_f1'],
  qasper: [128, 'qa_f1'],
  multifieldqa_en: [64, 'qa_f1'],
  multifieldqa_zh: [64, 'qa_f1_zh'],
  hotpotqa: [32, 'qa_f1'],
  '2wikimqa': [32, 'qa_f1'],
  musique: [32, 'qa_f1'],
  dureader: [128, 'rouge_l_zh'],
  gov_report: [512, 'rouge_l'],
  qmsum: [512, 'rouge_l'],
  multi_news: [512, 'rouge_l'],
  vcsum: [512, 'rouge_l_zh'],
  trec: [64, 'classification'],
  triviaqa: [32, 'qa_f1_first_line'],
  samsum: [128, 'rouge_l_first_line'],
  lsht: [64, 'classification'],
  passage_count: [32, 'count'],
  passage_retrieval_en: [32, 'retrieval'],
  passage_retrieval_zh: [32, 'retrieval_zh'],
  lcc: [64, 'code_similarity'],
  'repobench-p': [64, 'code_similarity'],
};

/** Few-shot and completion tasks, which the published runs ask without a chat template. */
const RAW_TASKS: ReadonlySet<string> = new Set<TaskName>([
  ...(['trec', 'triviaqa', 'samsum', 'lsht', 'lcc', 'repobench-p'] as const),
]);

/** LongBench's 21 tasks: published prompts, limits on new tokens and scores. */
export function longBenchTasks(): BenchmarkTask[] {
  return Object.entries(KINDS).map(([name, [maxNewTokens, metric]]) => ({
    name,
    template: LONGBENCH_PROMPTS[name as TaskName],
    chat: !RAW_TASKS.has(name),
    metric,
    maxNewTokens,
    parse: (value) => parseSample(value, metric === 'classification'),
  }));
}

const classNames = z.array(z.string()).min(1, 'must name the classes');

function parseSample(value: unknown, needsClasses: boolean): BenchmarkSample {
  const line = z
    .object({
      context: z.string().min(1, 'must be the text to read'),
      input: z.string(),
      answers: z
        .array(z.union([z.string(), z.number()]).transform(String))
        .min(1, 'must hold an answer'),
      all_classes: needsClasses ? classNames : z.unknown(),
    })
    .parse(value);
  const { context, input, answers, all_classes: classes } = line;
  return {
    context,
    values: { input },
    references: answers,
    classes: needsClasses ? (classes as string[]) : [],
  };
}
