import assert from '../../support/assert.js';
import { test } from 'node:test';
import {
  canonicalJson,
  sessionFingerprint,
  type FingerprintInputs,
} from '../../../services/platform/fingerprint.js';

const inputs: FingerprintInputs = {
  modelFingerprint: 'a'.repeat(32),
  policy: { prefillPolicy: 'dense', cachePolicy: 'full', dtype: 'bf16', cutRule: 'cpu' },
  sessionId: '0'.repeat(32),
  epoch: 1,
  layerBegin: 0,
  layerEnd: 6,
};

test('the order of fields does not change the fingerprint', () => {
  const reversed = Object.fromEntries(
    Object.entries(inputs).reverse(),
  ) as unknown as FingerprintInputs;
  assert.match(sessionFingerprint(inputs), /^[0-9a-f]{32}$/);
  assert.equal(sessionFingerprint(reversed), sessionFingerprint(inputs));
});

test('the fingerprint of given inputs never changes', () => {
  // SHA-256 of the canonical JSON below, first half: what older processes have written.
  assert.equal(
    canonicalJson(inputs),
    `{"epoch":1,"layerBegin":0,"layerEnd":6,"modelFingerprint":"${'a'.repeat(32)}","policy":` +
      '{"cachePolicy":"full","cutRule":"cpu","dtype":"bf16","prefillPolicy":"dense"},' +
      `"sessionId":"${'0'.repeat(32)}"}`,
  );
  assert.equal(sessionFingerprint(inputs), 'f3d26d681e525ed035fa08f172ae5747');
});

const changes: Partial<FingerprintInputs>[] = [
  { modelFingerprint: 'b'.repeat(32) },
  { policy: { ...inputs.policy, dtype: 'fp32' } },
  { policy: { ...inputs.policy, cutRule: 'gpu' } },
  { policy: { ...inputs.policy, cachePolicy: 'locret' } },
  { sessionId: '1'.repeat(32) },
  { epoch: 2 },
  { layerBegin: 1 },
  { layerEnd: 5 },
];
for (const change of changes) {
  test(`another ${JSON.stringify(change)} has another fingerprint`, () => {
    assert.notEqual(sessionFingerprint({ ...inputs, ...change }), sessionFingerprint(inputs));
  });
}
