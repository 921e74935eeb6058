/**
 * RULER's scores. A prediction is stripped, its control characters become line breaks, and what is
 * looked for are the references as substrings, whatever their case.
 */

/** The share of references that occur in the prediction; 0 without references. */
export function stringMatchAll(prediction: string, references: readonly string[]): number {
  return references.length === 0 ? 0 : occurring(prediction, references) / references.length;
}

/** 1 if any reference occurs in the prediction, else 0. */
export function stringMatchPart(prediction: string, references: readonly string[]): number {
  return occurring(prediction, references) > 0 ? 1 : 0;
}

function occurring(prediction: string, references: readonly string[]): number {
  const said = cleaned(prediction).toLowerCase();
  return references.filter((reference) => said.includes(reference.toLowerCase())).length;
}

function cleaned(prediction: string): string {
  return prediction
    .trim()
    .replace(/\p{Cc}/gu, (control) => (control < ' ' ? '\n' : control))
    .trim();
}
