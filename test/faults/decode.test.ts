import assert from '../support/assert.js';
import { after, afterEach, before } from 'node:test';
import type { GenerateHeader } from '../../proto/gen/longshadow/router/v1/GenerateHeader.js';
import { assertSameAnswer, type FaultAnswer } from '../support/fault-call.js';
import { FaultCluster } from '../support/fault-cluster.js';
import { faultPrompt } from '../support/fault-prompts.js';
import { faultTest } from '../support/fault-random.js';
import { noteRecovery } from '../support/fault-report.js';
import { needleSample } from '../support/needle-samples.js';

/* A decode is killed; another one takes the hand-off and goes on at the next token. */

const PROMPT = faultPrompt();
const TURN = needleSample(0).prompt.slice(100, 400);
const NEW_TOKENS = 200;
// All of it: an answer that ends by itself may be over before the kill.
const GREEDY: GenerateHeader = { maxNewTokens: NEW_TOKENS, ignoreEos: true };
const SAMPLED: GenerateHeader = {
  maxNewTokens: NEW_TOKENS,
  ignoreEos: true,
  sampling: { temperature: 1.3, topP: 0.95, seed: '20240607' },
};
const KEPT = { ...SAMPLED, keepSessionMs: '120000' };

let faults: FaultCluster;
before(async () => {
  faults = await FaultCluster.start({ decodes: 2 });
});
after(async () => {
  await faults.stop();
});
afterEach(async () => {
  await faults.settle();
});

for (const [what, header] of [
  ['greedy', GREEDY],
  ['temperature 1.3', SAMPLED],
] as const) {
  faultTest(`killed in mid stream, ${what}`, async (random) => {
    const expected = await faults.undisturbed(header, PROMPT);
    const call = faults.call(header, PROMPT);
    await call.says(random.integer(1, NEW_TOKENS * 0.4));
    const killedMs = performance.now();
    await faults.cluster.kill('decode', await faults.decodeOf(call.sessionId));
    const answer = await call.answer;
    assertSameAnswer(answer, expected);
    assert.deepEqual(answer.interruptions, ['DECODE_LOST']);
    noteRecovery('decode killed in mid stream', await call.recoveryMs(killedMs));
  });
}

faultTest('killed as it takes the hand-off', async (random) => {
  const expected = await faults.undisturbed(GREEDY, PROMPT);
  const call = faults.call(GREEDY, PROMPT);
  await call.passes(PROMPT.length);
  const { sessionId } = call;
  await faults.recordWhere(sessionId, ({ decodeId }) => decodeId !== null);
  await new Promise((resolve) => setTimeout(resolve, random.between(0, 10)));
  await faults.cluster.kill('decode', await faults.decodeOf(sessionId));
  assertSameAnswer(await call.answer, expected);
});

for (const [what, header] of [
  ['greedy', GREEDY],
  ['temperature 1.3', SAMPLED],
] as const) {
  faultTest(`killed in a second turn, ${what}: the first one is there`, async (random) => {
    const first = await faults.call(KEPT, PROMPT).answer;
    const { sessionId: continueSessionId } = first;
    const undisturbed = await faults.call({ ...header, continueSessionId }, TURN).answer;
    const again = await faults.call(KEPT, PROMPT).answer;
    assertSameAnswer(again, first);
    const call = faults.call({ ...header, continueSessionId: again.sessionId }, TURN);
    await call.says(random.integer(1, NEW_TOKENS * 0.4));
    await faults.cluster.kill('decode', await faults.decodeOf(call.sessionId));
    const answer = await call.answer;
    assertSameAnswer(answer, undisturbed);
    assert.deepEqual(answer.interruptions, ['DECODE_LOST']);
  });
}

faultTest('killed while a session is kept: its next turn goes on elsewhere', async () => {
  const first = await faults.call(KEPT, PROMPT).answer;
  const undisturbed = await faults.call({ ...GREEDY, continueSessionId: first.sessionId }, TURN)
    .answer;
  const { sessionId } = await faults.call(KEPT, PROMPT).answer;
  await faults.cluster.kill('decode', await faults.decodeOf(sessionId));
  const call = faults.call({ ...GREEDY, continueSessionId: sessionId }, TURN);
  assertSameAnswer(await call.answer, undisturbed);
});

faultTest('killed with a batch: every session of it goes on', async (random) => {
  const headers = [GREEDY, SAMPLED, { ...SAMPLED, sampling: { temperature: 0.7, seed: '5' } }];
  const expected: FaultAnswer[] = [];
  for (const header of headers) expected.push(await faults.undisturbed(header, PROMPT));
  const calls = headers.map((header) => faults.call(header, PROMPT));
  for (const call of calls) await call.says(random.integer(1, 20));
  await faults.cluster.kill('decode', random.integer(0, 2));
  for (const [index, call] of calls.entries()) {
    const reference = expected[index];
    assert.ok(reference);
    assertSameAnswer(await call.answer, reference);
  }
});
