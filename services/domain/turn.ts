/** Tokens of a later turn that decode appends itself; a longer one is refused. */
export const MAX_TURN_TOKENS = 4_096;
