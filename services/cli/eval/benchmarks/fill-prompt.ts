import type { BenchmarkSample } from './benchmark-types.js';

/** A filled template, split where the context stands. */
export interface FilledPrompt {
  readonly before: string;
  readonly after: string;
}

/**
 * Puts a sample's values into the template around its context. Values are put in once: a text that
 * holds `{input}` keeps it.
 *
 * @throws Error if the template lacks {context} or names a value that the sample lacks
 */
export function fillPrompt(template: string, sample: BenchmarkSample): FilledPrompt {
  const [before, after, more] = template.split('{context}');
  if (before === undefined || after === undefined || more !== undefined) {
    throw new Error(`a template needs {context} once: ${template}`);
  }
  return { before: fill(before, sample.values), after: fill(after, sample.values) };
}

function fill(template: string, values: Readonly<Record<string, string>>): string {
  return template.replace(/\{(\w+)\}/g, (_, name: string) => {
    const value = values[name];
    if (value === undefined) throw new Error(`a sample has no value for {${name}}`);
    return value;
  });
}
