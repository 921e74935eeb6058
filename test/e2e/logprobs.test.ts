import assert from '../support/assert.js';
import { after, before, test } from 'node:test';
import { promptLogits } from '../../services/cli/engine/scratch-run.js';
import { NEEDLE_MODEL, startTestCluster, type TestCluster } from '../support/cluster.js';
import { generate, idParts } from '../support/generate.js';
import { needleSample } from '../support/needle-samples.js';

/*
 * In fp32 a logit of this model is wrong by at most 2e-3 (the bound that the engine is held to
 * against another implementation); a log-probability is a logit minus a log-sum-exp, each within
 * that bound, and two ways of computing it differ by at most twice the sum.
 */
const LOGPROB_TOLERANCE = 8e-3;

let cluster: TestCluster;
before(async () => {
  cluster = await startTestCluster({ WORKER_DTYPE: 'fp32', DECODE_DTYPE: 'fp32' });
});
after(async () => {
  await cluster.stop();
});

function assertClose(actual: number, expected: number, what: string): void {
  assert.ok(
    Math.abs(actual - expected) <= LOGPROB_TOLERANCE,
    `${what}: ${actual}, not ${expected}`,
  );
}

test('forcing the greedy answer gives the log-probabilities that greedy reported', async () => {
  const { prompt } = needleSample(0);
  const options = { maxNewTokens: 12, ignoreEos: true };
  const greedy = await generate(cluster.client, options, idParts(prompt));
  const forced = await generate(
    cluster.client,
    { ...options, forcedTokens: [...greedy.ids] },
    idParts(prompt),
  );
  assert.deepEqual(forced.ids, greedy.ids);
  assert.deepEqual(
    forced.tokens.map(({ logprob, rank }) => [logprob, rank]),
    greedy.tokens.map(({ logprob, rank }) => [logprob, rank]),
  );
});

test('a forced wrong token is less likely, and what follows is free again', async () => {
  const { prompt, answer } = needleSample(0);
  const wrong = (answer[0] ?? 0) + 1;
  const forced = await generate(
    cluster.client,
    { maxNewTokens: 4, ignoreEos: true, forcedTokens: [wrong] },
    idParts(prompt),
  );
  assert.equal(forced.ids[0], wrong);
  assert.equal(forced.ids.length, 4);
  assert.ok((forced.tokens[0]?.rank ?? 0) > 1);
  assert.ok((forced.tokens[0]?.logprob ?? 0) < -1);
});

test('prompt log-probabilities equal forced ones, and the engine in chunks of another size', async () => {
  const { ids } = needleSample(1);
  const end = 3_000;
  const [prompt, answer] = [ids.slice(0, end - 8), ids.slice(end - 8, end)];
  const ranges = [
    { beginToken: 1, endToken: 4 },
    // On both sides of the first chunk's end and of a page's.
    { beginToken: 2_046, endToken: 2_051 },
    { beginToken: 2_558, endToken: 2_562 },
    { beginToken: prompt.length, endToken: end },
  ];
  const positions = ranges.flatMap(({ beginToken, endToken }) =>
    Array.from({ length: endToken - beginToken }, (_, place) => beginToken + place),
  );
  const scored = await generate(
    cluster.client,
    { maxNewTokens: 1, promptLogprobs: ranges },
    idParts(ids.slice(0, end + 1), 700),
  );
  assert.deepEqual(
    scored.promptLogprobs.map(({ position }) => Number(position)),
    positions,
  );
  const reference = await engineLogprobs(ids.slice(0, end), positions);
  for (const [place, { position, tokenId, logprob, rank }] of scored.promptLogprobs.entries()) {
    assert.equal(tokenId, ids[Number(position)]);
    const expected = reference[place];
    assert.ok(expected);
    assertClose(logprob, expected.logprob, `position ${position}`);
    assert.ok(
      rank >= expected.leastRank && rank <= expected.mostRank,
      `position ${position}: rank ${rank}, not ${expected.leastRank} to ${expected.mostRank}`,
    );
  }

  const forced = await generate(
    cluster.client,
    { maxNewTokens: answer.length, ignoreEos: true, forcedTokens: [...answer] },
    idParts(prompt),
  );
  const ofAnswer = scored.promptLogprobs.slice(-answer.length);
  for (const [place, { logprob }] of forced.tokens.entries()) {
    assertClose(ofAnswer[place]?.logprob ?? Number.NaN, logprob, `answer token ${place}`);
  }
});

test('a second turn is scored as the same tokens in one prompt are', async () => {
  const { prompt } = needleSample(0);
  const [firstPart, turn] = [prompt.slice(0, 1_500), prompt.slice(1_500, 1_900)];
  const first = await generate(
    cluster.client,
    { maxNewTokens: 1, ignoreEos: true, keepSessionMs: 60_000 },
    idParts(firstPart),
  );
  const begin = Number(first.finished.usage?.promptTokens) + first.ids.length;
  const range = { beginToken: begin + 10, endToken: begin + 30 };
  const second = await generate(
    cluster.client,
    { maxNewTokens: 1, continueSessionId: first.sessionId, promptLogprobs: [range] },
    idParts(turn),
  );
  const whole = [...firstPart, ...first.ids, ...turn];
  const positions = Array.from({ length: 20 }, (_, place) => range.beginToken + place);
  const reference = await engineLogprobs(whole, positions);
  assert.equal(second.promptLogprobs.length, 20);
  for (const [place, { position, tokenId, logprob }] of second.promptLogprobs.entries()) {
    assert.equal(Number(position), positions[place]);
    assert.equal(tokenId, whole[Number(position)]);
    assertClose(logprob, reference[place]?.logprob ?? Number.NaN, `position ${position}`);
  }
});

interface ReferenceLogprob {
  readonly logprob: number;
  /** Rank if every logit within the tolerance fell behind, or in front. */
  readonly leastRank: number;
  readonly mostRank: number;
}

/** Straight on the engine, in chunks of 1,000. */
async function engineLogprobs(
  ids: readonly number[],
  positions: readonly number[],
): Promise<ReferenceLogprob[]> {
  const { values, vocabSize } = await promptLogits(
    { modelDirectory: NEEDLE_MODEL, device: 'cpu', dtype: 'fp32', chunkTokens: 1_000 },
    ids,
    positions.map((position) => position - 1),
  );
  return positions.map((position, place) => {
    const row = values.subarray(place * vocabSize, (place + 1) * vocabSize);
    const top = row.reduce((most, value) => Math.max(most, value), -Infinity);
    const sum = row.reduce((total, value) => total + Math.exp(value - top), 0);
    const logit = row[ids[position] ?? -1] ?? Number.NaN;
    return {
      logprob: logit - top - Math.log(sum),
      leastRank: 1 + row.filter((value) => value > logit + LOGPROB_TOLERANCE).length,
      mostRank: row.filter((value) => value >= logit - LOGPROB_TOLERANCE).length,
    };
  });
}
