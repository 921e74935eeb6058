import assert from '../../../support/assert.js';
import { describe, test } from 'node:test';
import type { WantedSparsePolicy } from '../../../../services/domain/sparse-policy.js';
import { ServingError } from '../../../../services/domain/serving-error.js';
import type { PolicyDefaults } from '../../../../services/router/admission/policy-defaults.js';
import {
  refuseOtherPolicies,
  resolvePolicy,
} from '../../../../services/router/admission/resolve-policy.js';
import {
  refuseSparseOfTurn,
  resolveSparse,
} from '../../../../services/router/admission/resolve-sparse.js';
import type { ServedModel } from '../../../../services/router/admission/served-model.js';

const MODEL: ServedModel = {
  ...{ name: 'needle', modelFingerprint: 'a'.repeat(32), dtype: 'bf16', cutRule: 'cpu' },
  ...{ vocabSize: 4_096, maxPositions: 10_000, kvBytesPerToken: 1_000 },
  ...{ layerBegin: 0, layerEnd: 6 },
};
const DEFAULTS: PolicyDefaults = {
  ...{ prefillPolicy: 'dense', tilesPerBlock: 64, denseBelowTokens: 8_192, guardInterval: 8 },
  patternsSha256: 'e'.repeat(64),
};
const PLAIN = { prefillPolicy: null, cachePolicy: null, sparse: null };
const UNSET: WantedSparsePolicy = { tilesPerBlock: null, denseBelowTokens: null, gamma: null };

describe('policies', () => {
  test('resolve to dense and full, with the worker’s dtype and cuts', () => {
    assert.deepEqual(resolvePolicy({ ...PLAIN, cachePolicy: 'full' }, MODEL, DEFAULTS), {
      ...{ prefillPolicy: 'dense', cachePolicy: 'full', dtype: 'bf16', cutRule: 'cpu' },
      sparse: null,
    });
  });

  test('of a model may be sparse where a header does not say, which a header may undo', () => {
    const defaults: PolicyDefaults = { ...DEFAULTS, prefillPolicy: 'minference' };
    const policy = resolvePolicy(PLAIN, MODEL, defaults);
    assert.equal(policy.prefillPolicy, 'minference');
    assert.equal(policy.sparse?.tilesPerBlock, 64);
    const dense = resolvePolicy({ ...PLAIN, prefillPolicy: 'dense' }, MODEL, defaults);
    assert.deepEqual([dense.prefillPolicy, dense.sparse], ['dense', null]);
  });

  for (const wanted of [
    { prefillPolicy: null, cachePolicy: 'shadowkv' },
    { prefillPolicy: null, cachePolicy: 'locret' },
  ] as const) {
    test(`that are not built are refused: ${wanted.cachePolicy}`, () => {
      assert.throws(
        () => resolvePolicy({ ...wanted, sparse: null }, MODEL, DEFAULTS),
        (error) =>
          error instanceof ServingError &&
          error.code === 'POLICY_NOT_AVAILABLE' &&
          /available: full/.test(error.message),
      );
    });
  }
});

describe('a turn that continues a session', () => {
  const kept = resolvePolicy({ ...PLAIN, prefillPolicy: 'minference' }, MODEL, DEFAULTS);

  test('may name its policies, or leave them out', () => {
    refuseOtherPolicies({ prefillPolicy: null, cachePolicy: null }, kept);
    refuseOtherPolicies({ prefillPolicy: 'minference', cachePolicy: 'full' }, kept);
  });

  test('may not name others', () => {
    assert.throws(
      () => refuseOtherPolicies({ prefillPolicy: 'dense', cachePolicy: null }, kept),
      (error) =>
        error instanceof ServingError &&
        error.code === 'BAD_REQUEST' &&
        error.details.fieldViolations?.[0]?.field === 'prefill_policy' &&
        /is dense, but .* has minference: leave it out/.test(error.message),
    );
  });
});

describe('thresholds of sparse prefill', () => {
  test("are the router's where a header does not say", () => {
    const resolved = {
      ...{ denseBelowTokens: 8_192, tilesPerBlock: 64, patternsSha256: 'e'.repeat(64) },
      ...{ tilesOverrideFile: false, gamma: 0.95, tau: 0.1, minTiles: 8, guardInterval: 8 },
    };
    assert.deepEqual(resolveSparse('minference', null, DEFAULTS), resolved);
    assert.deepEqual(resolveSparse('minference', UNSET, DEFAULTS), resolved);
    for (const readsNoFile of ['flexprefill', 'a-shape'] as const) {
      assert.deepEqual(resolveSparse(readsNoFile, null, DEFAULTS), {
        ...resolved,
        patternsSha256: '',
      });
    }
  });

  test("are a header's where it says them, zero included", () => {
    const wanted = { tilesPerBlock: 65_536, denseBelowTokens: 0, gamma: Math.fround(0.9) };
    const resolved = resolveSparse('flexprefill', wanted, DEFAULTS);
    assert.equal(resolved?.tilesPerBlock, 65_536);
    assert.equal(resolved.tilesOverrideFile, true);
    assert.equal(resolved.denseBelowTokens, 0);
    assert.equal(resolved.gamma, 0.9, 'as it was written, not as 32 bits hold it');
  });

  const wrong: readonly (readonly [Partial<WantedSparsePolicy>, string])[] = [
    [{ tilesPerBlock: 0 }, 'sparse_prefill.tiles_per_block'],
    [{ tilesPerBlock: 65_537 }, 'sparse_prefill.tiles_per_block'],
    [{ gamma: 0 }, 'sparse_prefill.gamma'],
    [{ gamma: -0.1 }, 'sparse_prefill.gamma'],
    [{ gamma: 1.01 }, 'sparse_prefill.gamma'],
    [{ gamma: NaN }, 'sparse_prefill.gamma'],
  ];
  for (const [change, field] of wrong) {
    test(`are refused out of range: ${JSON.stringify(change)}`, () => {
      const resolve = () => resolveSparse('minference', { ...UNSET, ...change }, DEFAULTS);
      assert.throws(resolve, refusedAt(field));
    });
  }

  for (const policy of ['minference', 'a-shape'] as const) {
    test(`are refused where they do nothing: gamma with ${policy}`, () => {
      const resolve = () => resolveSparse(policy, { ...UNSET, gamma: 0.9 }, DEFAULTS);
      assert.throws(resolve, refusedAt('sparse_prefill.gamma'));
      assert.throws(resolve, new RegExp(`does nothing with ${policy}: leave it out`));
    });
  }

  test('are refused with dense prefill, which has none', () => {
    const resolve = () => resolveSparse('dense', UNSET, DEFAULTS);
    assert.throws(resolve, refusedAt('sparse_prefill'));
    assert.throws(resolve, /the prefill policy is dense: set prefill_policy/);
  });

  test('are refused with a later turn, which keeps those of the first', () => {
    refuseSparseOfTurn(null);
    assert.throws(() => {
      refuseSparseOfTurn(UNSET);
    }, refusedAt('sparse_prefill'));
  });
});

function refusedAt(field: string) {
  return (error: unknown): boolean =>
    error instanceof ServingError &&
    error.code === 'BAD_REQUEST' &&
    error.message.startsWith(field) &&
    error.details.fieldViolations?.[0]?.field === field;
}
