import { randomBytes } from 'node:crypto';

const processId = randomBytes(8).toString('hex');
let made = 0;

/** A name that no other append has, of this process or another. */
export function newAppendId(): string {
  made += 1;
  return `${processId}-${String(made)}`;
}
