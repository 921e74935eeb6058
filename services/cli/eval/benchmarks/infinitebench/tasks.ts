import type { MetricName } from '../../eval-types.js';
import type { BenchmarkSample, BenchmarkTask, PromptWording } from '../benchmark-types.js';
import { BASE_PROMPTS } from './base-prompts.js';
import { CHAT_PROMPTS } from './chat-prompts.js';
import {
  parseCalculation,
  parseChoice,
  parseCodeRun,
  parseContextOnly,
  parseMathFind,
  parseQuestion,
} from './parse-sample.js';

interface Kind {
  readonly metric: MetricName;
  readonly maxNewTokens: number;
  /** With the chat wording, which was published without limits: models answer in sentences. */
  readonly maxNewChatTokens: number;
  readonly parse: (value: unknown) => BenchmarkSample;
}

const KINDS: Readonly<Record<keyof typeof BASE_PROMPTS, Kind>> = {
  passkey: kind('first_number', 6, 32, parseQuestion),
  number_string: kind('first_number', 12, 32, parseQuestion),
  kv_retrieval: kind('kv_retrieval', 50, 128, parseQuestion),
  longbook_sum_eng: kind('rouge_lsum', 1_200, 1_200, parseContextOnly),
  longbook_choice_eng: kind('choice', 40, 40, parseChoice),
  longbook_qa_eng: kind('qa_f1', 40, 40, parseQuestion),
  longbook_qa_chn: kind('character_f1_zh', 40, 40, parseQuestion),
  longdialogue_qa_eng: kind('dialogue_name', 40, 40, parseContextOnly),
  math_find: kind('math_find', 3, 16, parseMathFind),
  math_calc: kind('leading_integers', 30_000, 30_000, parseCalculation),
  code_run: kind('last_integer', 5, 1_024, parseCodeRun),
  code_debug: kind('code_debug', 5, 1_024, parseChoice),
};

/** InfiniteBench's twelve tasks: published prompts, limits on new tokens and scores. */
export function infiniteBenchTasks(wording: PromptWording): BenchmarkTask[] {
  const chat = wording === 'chat';
  const prompts = chat ? CHAT_PROMPTS : BASE_PROMPTS;
  return Object.entries(KINDS).map(([name, { metric, maxNewTokens, maxNewChatTokens, parse }]) => ({
    name,
    template: prompts[name as keyof typeof KINDS],
    chat,
    metric,
    maxNewTokens: chat ? maxNewChatTokens : maxNewTokens,
    parse,
  }));
}

function kind(
  metric: MetricName,
  maxNewTokens: number,
  maxNewChatTokens: number,
  parse: Kind['parse'],
): Kind {
  return { metric, maxNewTokens, maxNewChatTokens, parse };
}
