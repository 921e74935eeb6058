import assert from '../../support/assert.js';
import { test } from 'node:test';
import { PREFILL_POLICY_NAMES, type PrefillPolicy } from '../../../services/domain/policy.js';
import type { ResolvedSparsePolicy } from '../../../services/domain/sparse-policy.js';
import {
  canonicalJson,
  sessionFingerprint,
  type FingerprintInputs,
} from '../../../services/platform/fingerprint.js';
import { prefixChainStart } from '../../../services/platform/prefix-chain.js';

const SPARSE: ResolvedSparsePolicy = {
  denseBelowTokens: 8_192,
  tilesPerBlock: 64,
  tilesOverrideFile: false,
  patternsSha256: 'e'.repeat(64),
  gamma: 0.95,
  tau: 0.1,
  minTiles: 8,
  guardInterval: 8,
};

const inputs: FingerprintInputs = {
  modelFingerprint: 'a'.repeat(32),
  policy: {
    prefillPolicy: 'dense',
    cachePolicy: 'full',
    dtype: 'bf16',
    cutRule: 'cpu',
    sparse: null,
  },
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
      '{"cachePolicy":"full","cutRule":"cpu","dtype":"bf16","prefillPolicy":"dense","sparse":null},' +
      `"sessionId":"${'0'.repeat(32)}"}`,
  );
  assert.equal(sessionFingerprint(inputs), '1101880cef97fbdff816ca33927f1427');
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

const sparseChanges: Partial<ResolvedSparsePolicy>[] = [
  { denseBelowTokens: 8_193 },
  { tilesPerBlock: 65 },
  { tilesOverrideFile: true },
  { patternsSha256: '' },
  { gamma: 0.9 },
  { tau: 0.2 },
  { minTiles: 7 },
  { guardInterval: 0 },
];
const withSparse = (sparse: ResolvedSparsePolicy | null) => ({
  ...inputs,
  policy: { ...inputs.policy, sparse },
});
for (const change of sparseChanges) {
  const other = withSparse({ ...SPARSE, ...change });

  test(`of sparse prefill, another ${JSON.stringify(change)} has another fingerprint`, () => {
    assert.notEqual(sessionFingerprint(other), sessionFingerprint(withSparse(SPARSE)));
    assert.notEqual(sessionFingerprint(other), sessionFingerprint(withSparse(null)));
  });
}

function chain(prefillPolicy: PrefillPolicy, sparse: ResolvedSparsePolicy | null): string {
  const { modelFingerprint, policy } = inputs;
  const seed = { modelFingerprint, tenant: '' };
  return prefixChainStart({ ...seed, policy: { ...policy, prefillPolicy, sparse } });
}

/** What decides the keys that rows see, and so the K and V of the layers above. */
const decides = {
  minference: ['denseBelowTokens', 'tilesPerBlock', 'tilesOverrideFile', 'patternsSha256'],
  flexprefill: ['denseBelowTokens', 'tilesPerBlock', 'gamma', 'tau', 'minTiles'],
  'a-shape': ['denseBelowTokens', 'tilesPerBlock'],
} as const;

for (const [name, fields] of Object.entries(decides)) {
  const policy = name as keyof typeof decides;
  for (const change of sparseChanges) {
    const [field = ''] = Object.keys(change);
    const other = chain(policy, { ...SPARSE, ...change });
    if (fields.some((decisive) => decisive === field)) {
      test(`chunks of ${name} with another ${field} are no other prompt's`, () => {
        assert.notEqual(other, chain(policy, SPARSE));
      });
    } else {
      test(`chunks of ${name} are shared by prompts with another ${field}`, () => {
        assert.equal(other, chain(policy, SPARSE));
      });
    }
  }
}

test('prompts of two prefill policies share no chunks', () => {
  const chains = PREFILL_POLICY_NAMES.map((name) => chain(name, name === 'dense' ? null : SPARSE));
  assert.equal(new Set(chains).size, PREFILL_POLICY_NAMES.length);
});
