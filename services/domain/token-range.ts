/** A half-open span of prompt positions, `[beginToken, endToken)`. */
export interface TokenRange {
  readonly beginToken: number;
  readonly endToken: number;
}
