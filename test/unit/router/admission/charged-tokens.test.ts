import assert from '../../../support/assert.js';
import { test } from 'node:test';
import { chargedTokens } from '../../../../services/router/admission/charged-tokens.js';

const CHUNK = { kind: 'prefill', beginToken: 4_096, endToken: 8_193 } as const;

test('a chunk is charged its tokens: four times at low priority, a quarter at high', () => {
  assert.equal(chargedTokens(CHUNK, 'normal'), 4_097);
  assert.equal(chargedTokens(CHUNK, 'low'), 4 * 4_097);
  assert.equal(chargedTokens(CHUNK, 'high'), 1_025);
});

test('a seal is charged nothing', () => {
  const seal = { kind: 'seal', beginToken: 8_193, endToken: 8_193 } as const;
  assert.equal(chargedTokens(seal, 'low'), 0);
});
