import assert from '../../../../support/assert.js';
import { describe, test } from 'node:test';
import type { AnswerEvent } from '../../../../../services/cli/rpc/answer-events.js';
import { Routers } from '../../../../../services/cli/rpc/routers.js';
import { checkTokenIds, probeIds } from '../../../../../services/cli/eval/run/check-tokenizer.js';
import { EvalCluster } from '../../../../../services/cli/eval/run/eval-cluster.js';
import { PromptHalves } from '../../../../../services/cli/eval/run/prompt-halves.js';
import { MODEL, NEEDLE_MODEL } from '../../../../support/cluster.js';
import { finishedEvent } from './answers.js';

/** Answers a prompt as a cluster does whose tokenizer makes these ids. */
class ServedIds extends EvalCluster {
  constructor(private readonly ids: readonly number[]) {
    const signal = new AbortController().signal;
    super(new Routers(['127.0.0.1:1'], {}), MODEL, 1, signal, () => undefined);
  }

  override async *generate(): AsyncGenerator<AnswerEvent> {
    const promptLogprobs = this.ids
      .map((tokenId, position) => ({ position, tokenId, logprob: -1, rank: 1 }))
      .slice(1);
    const place = { sessionId: 's', processedTokens: 0, totalTokens: null, cachedTokens: 0 };
    yield { ...place, sequence: 1, type: 'progress', etaMs: null, promptLogprobs };
    await Promise.resolve();
    yield finishedEvent('');
  }
}

describe('The ids of a run', () => {
  test('are compared with those of the cluster, not only counted', async () => {
    const halves = await PromptHalves.load(MODEL, NEEDLE_MODEL);
    const ids = await probeIds(halves);
    await checkTokenIds(new ServedIds(ids), halves, 'there');
    const other = ids.with(9, (ids[9] ?? 0) + 1);
    await assert.rejects(checkTokenIds(new ServedIds(other), halves, 'there'), {
      code: 'MODEL_INVALID',
      message: /of there makes id \d+ at position 9 .* --tokenizer/,
    });
    const fewer = new ServedIds(ids.slice(0, -1));
    await assert.rejects(checkTokenIds(fewer, halves, 'there'), /makes none: give --tokenizer/);
  });
});
