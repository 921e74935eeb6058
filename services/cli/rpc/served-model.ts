import type { Model__Output } from '../../../proto/gen/longshadow/router/v1/Model.js';

/** A model as ListModels describes it, with numbers instead of decimal strings. */
export interface ServedModel {
  readonly name: string;
  /** 32 hex digits over configuration and weights. */
  readonly fingerprint: string;
  /** Positions the model was trained for. */
  readonly maxPositions: number;
}

export function toServedModel({ name, fingerprint, maxPositions }: Model__Output): ServedModel {
  return { name, fingerprint, maxPositions: Number(maxPositions) };
}
