import { ServingError } from '../domain/serving-error.js';
import { loadModelTokenizer, type ModelTokenizer } from '../platform/tokenizer/model-tokenizer.js';

/** The tokenizers of the models that this router serves, by name. */
export class Models {
  private constructor(private readonly byName: ReadonlyMap<string, ModelTokenizer>) {}

  /**
   * @param directories by model name
   * @throws ServingError MODEL_INVALID
   */
  static async load(directories: ReadonlyMap<string, string>): Promise<Models> {
    const loaded = new Map<string, ModelTokenizer>();
    for (const [name, directory] of directories) {
      loaded.set(name, await loadModelTokenizer(name, directory));
    }
    return new Models(loaded);
  }

  get names(): readonly string[] {
    return [...this.byName.keys()];
  }

  /** @throws ServingError UNKNOWN_MODEL naming those that are known */
  tokenizer(name: string): ModelTokenizer {
    const found = this.byName.get(name);
    if (found !== undefined) return found;
    throw new ServingError(
      'UNKNOWN_MODEL',
      `model "${name}" is not served here; served: ${this.names.join(', ')}`,
      { fieldViolations: [{ field: 'model', description: `one of ${this.names.join(', ')}` }] },
    );
  }
}
