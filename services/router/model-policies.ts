import { join } from 'node:path';
import { z } from 'zod';
import type { LoadedPatterns } from '../platform/patterns/load-patterns.js';
import { loadPatterns, PATTERNS_FILE } from '../platform/patterns/load-patterns.js';
import { checkPatternShape } from '../platform/patterns/parse-patterns.js';
import type { PolicyDefaults } from './admission/policy-defaults.js';
import type { RouterSettings } from './config.js';
import type { Models } from './models.js';

type PolicySettings = Pick<
  RouterSettings,
  | 'models'
  | 'prefillPolicies'
  | 'patternsFiles'
  | 'tilesPerBlock'
  | 'denseBelowTokens'
  | 'guardInterval'
>;

/** The part of a config.json that says how many heads there are. */
const shapeSchema = z.object({
  num_hidden_layers: z.number(),
  num_attention_heads: z.number(),
});

/**
 * What each model's sessions get where their header does not say; reads the models' pattern files.
 * @throws ServingError MODEL_INVALID for a bad file; Error for a model that is not served
 */
export async function loadModelPolicies(
  settings: PolicySettings,
  models: Models,
): Promise<(model: string) => PolicyDefaults> {
  refuseUnknown('ROUTER_PREFILL_POLICIES', settings.prefillPolicies, models);
  refuseUnknown('ROUTER_PATTERNS_FILES', settings.patternsFiles, models);
  const patterns = new Map<string, LoadedPatterns>();
  for (const [name, directory] of settings.models) {
    const file = settings.patternsFiles.get(name) ?? null;
    const loaded = await loadPatterns(directory, file);
    const shape = shapeSchema.safeParse(models.tokenizer(name).modelConfig);
    if (loaded.path !== null && shape.success) {
      const { num_hidden_layers: layers, num_attention_heads: queryHeads } = shape.data;
      const path = file ?? join(directory, PATTERNS_FILE);
      checkPatternShape(loaded.patterns, { layers, queryHeads }, path);
    }
    patterns.set(name, loaded);
  }
  const { tilesPerBlock, denseBelowTokens, guardInterval } = settings;
  return (model) => ({
    prefillPolicy: settings.prefillPolicies.get(model) ?? 'dense',
    ...{ tilesPerBlock, denseBelowTokens, guardInterval },
    patternsSha256: patterns.get(model)?.sha256 ?? '',
  });
}

function refuseUnknown(
  variable: string,
  named: ReadonlyMap<string, unknown>,
  { names }: Models,
): void {
  const unknown = [...named.keys()].find((name) => !names.includes(name));
  if (unknown === undefined) return;
  throw new Error(`${variable}: ROUTER_MODELS has no model ${unknown}; it has ${names.join(', ')}`);
}
