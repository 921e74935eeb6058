import { planPrefillChunks } from '../../services/domain/plan-prefill-chunks.js';
import type { TokenRange } from '../../services/domain/token-range.js';
import { IS_LONG } from './fault-random.js';
import { needleSample } from './needle-samples.js';

/** Tokens of the question at a sample's end. */
const QUESTION_TOKENS = 200;
/** In the short form a prompt of three chunks. */
const SHORT_TOKENS = 3_000;

/** A prompt of several chunks; another variant shares no chunk with it. */
export function faultPrompt(variant = 0, tokens = IS_LONG ? Infinity : SHORT_TOKENS): number[] {
  const { prompt } = needleSample(1);
  const text = prompt.slice(1, -QUESTION_TOKENS);
  const at = (variant * 97) % text.length;
  const turned = [...text.slice(at), ...text.slice(0, at)].slice(0, tokens - QUESTION_TOKENS - 1);
  return [...prompt.slice(0, 1), ...turned, ...prompt.slice(-QUESTION_TOKENS)];
}

/** The chunks that a prompt is prefilled in. */
export function chunksOf(prompt: readonly number[]): TokenRange[] {
  return planPrefillChunks(prompt.length, 'cpu');
}
