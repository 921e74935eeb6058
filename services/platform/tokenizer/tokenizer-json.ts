import { z } from 'zod';

/** The parts of a Hugging Face tokenizer.json that the router reasons about; others pass through. */
const addedTokenSchema = z.looseObject({
  id: z.number().int().nonnegative(),
  content: z.string().min(1),
  lstrip: z.boolean().default(false),
  rstrip: z.boolean().default(false),
});

const stepSchema = z.looseObject({ type: z.string() });

const templateItemSchema = z.looseObject({
  SpecialToken: z.looseObject({ id: z.string() }).optional(),
  Sequence: z.looseObject({}).optional(),
});

export const tokenizerJsonSchema = z.looseObject({
  added_tokens: z.array(addedTokenSchema).default([]),
  normalizer: stepSchema.nullable().default(null),
  pre_tokenizer: stepSchema.nullable().default(null),
  post_processor: stepSchema.nullable().default(null),
  model: z.looseObject({
    type: z.string(),
    // Not copied: a vocabulary may hold any key, `__proto__` too.
    vocab: z.custom<Readonly<Record<string, number>>>((v) => typeof v === 'object' && v !== null),
    merges: z.custom<readonly unknown[]>((v) => Array.isArray(v)).optional(),
    byte_fallback: z.boolean().nullish(),
  }),
});

export type TokenizerJson = z.infer<typeof tokenizerJsonSchema>;
export type AddedToken = z.infer<typeof addedTokenSchema>;
export type TokenizerStep = z.infer<typeof stepSchema>;

/** A step and, for a Sequence, the steps in it, in order. */
export function flattenSteps(
  step: TokenizerStep | null,
  listName: 'normalizers' | 'pretokenizers' | 'processors',
): TokenizerStep[] {
  if (step === null) return [];
  if (step.type !== 'Sequence') return [step];
  return z
    .array(stepSchema)
    .parse(step[listName])
    .flatMap((inner) => flattenSteps(inner, listName));
}

/** Ids that the post-processor puts before a single text: `<|begin_of_text|>` and the like. */
export function postProcessorPrefix(json: TokenizerJson): number[] {
  const template = flattenSteps(json.post_processor, 'processors').find(
    ({ type }) => type === 'TemplateProcessing',
  );
  if (template === undefined) return [];
  const items = z.array(templateItemSchema).parse(template['single']);
  const tokens = z
    .record(z.string(), z.looseObject({ ids: z.array(z.number().int()) }))
    .parse(template['special_tokens']);
  const sequenceAt = items.findIndex((item) => item.Sequence !== undefined);
  return items.slice(0, sequenceAt).flatMap((item) => {
    const name = item.SpecialToken?.id;
    return name === undefined ? [] : (tokens[name]?.ids ?? []);
  });
}
