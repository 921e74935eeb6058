import { adjacencySafeCut, SPACE_MARK } from './adjacency-safe-cut.js';
import type { IsSafeCut } from './cut-finder.js';
import { isRegexSafeCut } from './regex-safe-cut.js';
import { flattenSteps, type TokenizerJson, type TokenizerStep } from './tokenizer-json.js';

/** How a tokenizer's text may be taken apart. */
export interface TextSplit {
  /** 'none': text of this tokenizer is encoded in one piece, at its end. */
  readonly kind: 'regex' | 'adjacency' | 'none';
  readonly isSafeCut: IsSafeCut;
  /** Normaliser of every piece but a text's first: without the prefix that a text gets. */
  readonly restNormalizer: TokenizerStep | null;
  /** Pre-tokenizer of every piece but a text's first. */
  readonly restPreTokenizer: TokenizerStep | null;
  /** True if only a prompt's first text gets a prefix, not those after special tokens. */
  readonly prefixOnlyAtStart: boolean;
}

/** Word expressions that regex-safe-cut.ts is right for. */
const WORD_PATTERNS: ReadonlySet<unknown> = new Set([
  // Llama-3, GLM-4
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  // Qwen2
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  // GPT-2
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
]);

/** Expressions that only split letters from letters, looking no further than at their neighbours. */
const LETTER_PATTERNS: ReadonlySet<unknown> = new Set([
  // The embedded model: capitals beside capitals
  '[A-Z](?=[A-Z])|(?<=[A-Z])[A-Z]',
]);

/** Chooses the rule of a tokenizer by its structure. Unknown structures are encoded in one piece. */
export function chooseTextSplit(json: TokenizerJson): TextSplit {
  return wordSplit(json) ?? markSplit(json) ?? wholeText(json);
}

function wholeText(json: TokenizerJson): TextSplit {
  return {
    kind: 'none',
    isSafeCut: () => false,
    restNormalizer: json.normalizer,
    restPreTokenizer: json.pre_tokenizer,
    prefixOnlyAtStart: false,
  };
}

function wordSplit(json: TokenizerJson): TextSplit | null {
  const normalizers = flattenSteps(json.normalizer, 'normalizers');
  const steps = flattenSteps(json.pre_tokenizer, 'pretokenizers');
  const known =
    json.model.type === 'BPE' &&
    normalizers.every(({ type }) => type === 'NFC') &&
    steps.every(
      (step) =>
        step.type === 'Digits' ||
        isByteLevel(step) ||
        isSplitBy(WORD_PATTERNS, step) ||
        isSplitBy(LETTER_PATTERNS, step),
    ) &&
    steps.some(
      (step) =>
        isSplitBy(WORD_PATTERNS, step) || (isByteLevel(step) && step['use_regex'] !== false),
    );
  return known ? { ...wholeText(json), kind: 'regex', isSafeCut: isRegexSafeCut } : null;
}

function isByteLevel(step: TokenizerStep): boolean {
  return step.type === 'ByteLevel' && step['add_prefix_space'] === false;
}

function isSplitBy(patterns: ReadonlySet<unknown>, step: TokenizerStep): boolean {
  const pattern = step['pattern'];
  return (
    step.type === 'Split' &&
    step['behavior'] === 'Isolated' &&
    step['invert'] === false &&
    typeof pattern === 'object' &&
    pattern !== null &&
    'Regex' in pattern &&
    patterns.has(pattern.Regex)
  );
}

function markSplit(json: TokenizerJson): TextSplit | null {
  const { model } = json;
  const normalizers = flattenSteps(json.normalizer, 'normalizers');
  const known =
    model.type === 'BPE' &&
    model.byte_fallback === true &&
    hasAllByteTokens(model.vocab) &&
    (model.merges ?? []).every((merge) => !String(merge).includes('<0x')) &&
    normalizers.every((step) => isMarkPrefix(step) || isMarkForSpace(step)) &&
    isMarkPreTokenizer(json.pre_tokenizer);
  if (!known) return null;
  const preTokenizer = json.pre_tokenizer;
  return {
    kind: 'adjacency',
    isSafeCut: adjacencySafeCut(model.vocab),
    restNormalizer: sequence(normalizers.filter((step) => !isMarkPrefix(step))),
    restPreTokenizer: preTokenizer === null ? null : { ...preTokenizer, prepend_scheme: 'never' },
    prefixOnlyAtStart: preTokenizer !== null && preTokenizer['prepend_scheme'] === 'first',
  };
}

function hasAllByteTokens(vocabulary: Readonly<Record<string, number>>): boolean {
  return Array.from({ length: 256 }, (_, byte) =>
    byte.toString(16).toUpperCase().padStart(2, '0'),
  ).every((hex) => Object.hasOwn(vocabulary, `<0x${hex}>`));
}

function isMarkPrefix(step: TokenizerStep): boolean {
  return step.type === 'Prepend' && step['prepend'] === SPACE_MARK;
}

function isMarkForSpace(step: TokenizerStep): boolean {
  const pattern = step['pattern'];
  return (
    step.type === 'Replace' &&
    step['content'] === SPACE_MARK &&
    typeof pattern === 'object' &&
    pattern !== null &&
    'String' in pattern &&
    pattern.String === ' '
  );
}

function isMarkPreTokenizer(step: TokenizerStep | null): boolean {
  if (step === null) return true;
  return step.type === 'Metaspace' && step['replacement'] === SPACE_MARK;
}

function sequence(normalizers: readonly TokenizerStep[]): TokenizerStep | null {
  const [only] = normalizers;
  if (only === undefined) return null;
  return normalizers.length === 1 ? only : { type: 'Sequence', normalizers };
}
