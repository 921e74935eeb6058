import assert from '../../../../support/assert.js';
import { describe, test } from 'node:test';
import type { SparsePrefillReport } from '../../../../../services/cli/rpc/sparse-report.js';
import { tileDensity } from '../../../../../services/cli/eval/run/tile-density.js';

const REPORT: SparsePrefillReport = {
  ...{ tilesPerBlock: 32, denseBelowTokens: 0, patternsSha256: '' },
  ...{ sparseTokens: 100, denseTokens: 0, reusedTokens: 0, selectionShare: 0.1 },
  ...{ density: 0.2, layers: [] },
  ...{ estimateMicros: 1, indexMicros: 1, attentionMicros: 1 },
  ...{ guardBlocks: 0, guardErrorMean: 0, guardErrorMax: 0 },
  densities: [
    { pattern: 'a-shape', density: 0.5, attendedKeys: 50, causalKeys: 100 },
    { pattern: 'flex', density: 0.1, attendedKeys: 30, causalKeys: 300 },
  ],
};
const of = (sparsePrefill: SparsePrefillReport | null, prefillPolicy = 'minference') =>
  tileDensity({ prefillPolicy, sparsePrefill });

describe('The tile density of a prefill', () => {
  test('is over all heads, whatever their pattern', () => {
    assert.equal(of(REPORT), 80 / 400);
  });

  test('is 1 where it was dense, by its policy or because it was short', () => {
    assert.equal(of(null, 'dense'), 1);
    assert.equal(of({ ...REPORT, densities: [], sparseTokens: 0, denseTokens: 100 }), 1);
  });

  test('is not known where nothing was prefilled', () => {
    assert.equal(of(null), null);
    assert.equal(of({ ...REPORT, densities: [], sparseTokens: 0, reusedTokens: 100 }), null);
  });
});
