import assert from '../../../../support/assert.js';
import { describe, test } from 'node:test';
import type { SparsePrefillReport } from '../../../../../services/cli/rpc/sparse-report.js';
import { tileDensity } from '../../../../../services/cli/eval/run/tile-density.js';

const REPORT: SparsePrefillReport = {
  ...{ tilesPerBlock: 32, denseBelowTokens: 0, patternsSha256: '' },
  ...{ sparseTokens: 100, denseTokens: 20, reusedTokens: 0, selectionShare: 0.1 },
  ...{ density: 0.2, layers: [], densities: [] },
  ...{ estimateMicros: 1, indexMicros: 1, attentionMicros: 1 },
  ...{ guardBlocks: 0, guardErrorMean: 0, guardErrorMax: 0 },
};
const of = (sparsePrefill: SparsePrefillReport | null, prefillPolicy = 'minference') =>
  tileDensity({ prefillPolicy, sparsePrefill });

describe('The tile density of a prefill', () => {
  test('is what its report says of all that ran', () => {
    assert.equal(of(REPORT), 0.2);
    assert.equal(of({ ...REPORT, sparseTokens: 0, density: 1 }), 1);
  });

  test('is 1 under the dense policy, which reports none', () => {
    assert.equal(of(null, 'dense'), 1);
  });

  test('is not known where nothing was prefilled', () => {
    assert.equal(of(null), null);
    const reused = { sparseTokens: 0, denseTokens: 0, reusedTokens: 120, density: 1 };
    assert.equal(of({ ...REPORT, ...reused }), null);
  });
});
