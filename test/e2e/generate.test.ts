import assert from '../support/assert.js';
import { after, before, test } from 'node:test';
import { unaryCall } from '../../services/platform/rpc/client.js';
import { exchange, generate, idParts, type Answer } from '../support/generate.js';
import { needleSample } from '../support/needle-samples.js';
import { heldBy, MODEL, startTestCluster, type TestCluster } from '../support/cluster.js';
import { poll } from '../support/poll.js';

const END_ID = 3;
const CALL = { timeoutMs: 120_000 };

let cluster: TestCluster;
let baseline: unknown;
before(async () => {
  cluster = await startTestCluster();
  baseline = heldBy((await cluster.status()).members);
});
after(async () => {
  await cluster.stop();
});

async function holdsNothing(): Promise<void> {
  const status = await poll(
    () => cluster.status(),
    ({ members, sessions }) =>
      sessions.length === 0 && JSON.stringify(heldBy(members)) === JSON.stringify(baseline),
    5_000,
  );
  assert.deepEqual(heldBy(status.members), baseline);
}

for (const index of [0, 1]) {
  test(`sample ${index}, uploaded in parts of 100 ids, is answered right`, async () => {
    const { prompt, answer } = needleSample(index);
    const result = await generate(cluster.client, { maxNewTokens: 20 }, idParts(prompt, 100));
    assert.deepEqual(result.ids, [...answer, END_ID]);
    assert.equal(result.finished.finishReason, 'FINISH_REASON_STOP');
    assert.deepEqual(result.finished.usage, {
      promptTokens: String(prompt.length),
      cachedTokens: '0',
      completionTokens: String(answer.length + 1),
    });
    assert.equal(result.events[0]?.accepted?.model, MODEL);
    assert.ok(result.tokens.every(({ rank, logprob }) => rank === 1 && logprob <= 0));
    const processed = result.events.flatMap(({ progress }) =>
      progress ? [Number(progress.processedTokens)] : [],
    );
    assert.deepEqual(
      processed,
      [...processed].sort((left, right) => left - right),
    );
    assert.equal(processed.at(-1), prompt.length);
  });
}

const FACT = ' One of the special magic numbers for quiet-river is: 4071936. ';
const FILLER = 'The ship sailed on through the night, and nobody on deck said a word. '.repeat(60);
const CHAT = [
  { role: 'system', content: Buffer.from(`${FILLER}${FACT}${FILLER}`) },
  {
    role: 'user',
    content: Buffer.from(
      'What is the special magic number for quiet-river mentioned in the text above?',
    ),
  },
];

test('a chat prompt, cut inside a message and inside a character, is answered right', async () => {
  const text = Buffer.from(`Où sont les baleines? ${FILLER}${FACT}${FILLER}`);
  const inCharacter = text.indexOf('ù') + 1;
  const [, question] = CHAT;
  assert.ok(question);
  const result = await generate(cluster.client, { maxNewTokens: 60 }, [
    { message: { role: 'system', content: text.subarray(0, inCharacter) } },
    { text: text.subarray(inCharacter, 1_000) },
    { text: text.subarray(1_000) },
    { message: question },
  ]);
  assert.match(result.text, /4071936/);
});

test('special tokens spelled in text are ordinary text', async () => {
  const count = async (text: string): Promise<number> => {
    const parts = [{ text: Buffer.from(text) }];
    const { tokens } = await unaryCall(
      cluster.client,
      'countTokens',
      { model: MODEL, parts },
      CALL,
    );
    return Number(tokens);
  };
  assert.ok((await count('<|user|>')) > 1);
  assert.equal(await count('hello<|end|>'), (await count('hello')) + (await count('<|end|>')));
});

test('three sessions of very different lengths at once get the tokens they get alone', async () => {
  const long = needleSample(1).prompt;
  const middle = needleSample(0).prompt;
  const short = middle.slice(0, 40);
  const runs = [
    { prompt: short, maxNewTokens: 400 },
    { prompt: middle, maxNewTokens: 120 },
    { prompt: long, maxNewTokens: 60 },
  ].map(
    ({ prompt, maxNewTokens }) =>
      async (onToken?: () => void): Promise<Answer> =>
        generate(
          cluster.client,
          { maxNewTokens, ignoreEos: true },
          idParts(prompt),
          ({ token }) => {
            if (token) onToken?.();
          },
        ),
  );
  const [runShort, runMiddle, runLong] = runs;
  assert.ok(runShort && runMiddle && runLong);
  const alone = [await runShort(), await runMiddle(), await runLong()];

  // The middle one joins while the long one is prefilled and the short one decodes.
  const longRun = runLong();
  const middleRuns: Promise<Answer>[] = [];
  const shortAnswer = await runShort(() => {
    if (middleRuns.length === 0) middleRuns.push(runMiddle());
  });
  const together = [shortAnswer, ...(await Promise.all(middleRuns)), await longRun];

  for (const [place, answer] of together.entries()) {
    const reference = alone[place];
    assert.ok(reference);
    assert.deepEqual(answer.ids, reference.ids);
    // On the CPU a row's bits do not depend on its batch.
    assert.deepEqual(
      answer.tokens.map(({ logprob }) => logprob),
      reference.tokens.map(({ logprob }) => logprob),
    );
  }
});

test('every step of the decode loop is one native call for the whole batch', async () => {
  const stepsNow = async (): Promise<{ calls: number; steps: number }> => {
    const decode = (await cluster.status()).members.find(({ role }) => role === 'decode');
    assert.ok(decode?.reachable);
    return { calls: Number(decode.decodeCalls), steps: Number(decode.decodeSteps) };
  };
  const before = await stepsNow();
  assert.ok(before.steps > 0);
  assert.equal(before.calls, before.steps);
  // Two sessions whose decodes must overlap: the second starts with the first one's first token.
  const prompt = needleSample(0).prompt.slice(0, 64);
  const options = { maxNewTokens: 300, ignoreEos: true };
  const seconds: Promise<Answer>[] = [];
  const first = await generate(cluster.client, options, idParts(prompt), ({ token }) => {
    if (token && seconds.length === 0) {
      seconds.push(generate(cluster.client, options, idParts(prompt)));
    }
  });
  const [other] = await Promise.all(seconds);
  assert.ok(other);
  assert.deepEqual(other.ids, first.ids);
  const afterwards = await stepsNow();
  assert.equal(afterwards.calls, afterwards.steps);
  assert.ok(
    afterwards.steps - before.steps < 600,
    `${afterwards.steps - before.steps} steps for 600 tokens: nothing was batched`,
  );
});

test('sampling is a function of the seed', async () => {
  const prompt = needleSample(0).prompt.slice(0, 200);
  const sample = async (seed: string): Promise<readonly number[]> => {
    const sampling = { temperature: 1.2, topK: 50, topP: 0.95, seed };
    return (
      await generate(
        cluster.client,
        { maxNewTokens: 24, ignoreEos: true, sampling },
        idParts(prompt),
      )
    ).ids;
  };
  const first = await sample('11');
  assert.deepEqual(await sample('11'), first);
  assert.notDeepEqual(await sample('12'), first);
});

test('a stop text ends the answer and is not part of it', async () => {
  const { prompt } = needleSample(0);
  const whole = await generate(cluster.client, { maxNewTokens: 20 }, idParts(prompt));
  const stop = whole.text.trim().slice(3, 5);
  const cut = await generate(cluster.client, { maxNewTokens: 20, stop: [stop] }, idParts(prompt));
  assert.equal(cut.finished.finishReason, 'FINISH_REASON_STOP_TEXT');
  assert.equal(cut.text, whole.text.slice(0, whole.text.indexOf(stop)));
});

test('max_new_tokens ends the answer', async () => {
  const { prompt, answer } = needleSample(0);
  const cut = await generate(cluster.client, { maxNewTokens: 3 }, idParts(prompt));
  assert.deepEqual(cut.ids, answer.slice(0, 3));
  assert.equal(cut.finished.finishReason, 'FINISH_REASON_LENGTH');
});

test('a kept session goes on with a second turn and equals the same prompt in one piece', async () => {
  const [system, question] = CHAT;
  assert.ok(system && question);
  const first = await generate(cluster.client, { maxNewTokens: 60, keepSessionMs: 60_000 }, [
    { message: system },
    { message: question },
  ]);
  assert.ok(Number(first.finished.keptUntilUnixMs) > Date.now());
  const kept = (await cluster.status()).sessions;
  assert.deepEqual(
    kept.map(({ sessionId, state }) => [sessionId, state]),
    [[first.sessionId, 'kept']],
  );
  const second = await generate(
    cluster.client,
    { maxNewTokens: 60, continueSessionId: first.sessionId },
    [{ message: question }],
  );
  assert.equal(second.sessionId, first.sessionId);
  assert.match(second.text, /4071936/);
  const usage = second.finished.usage;
  assert.ok(Number(usage?.cachedTokens) >= Number(first.finished.usage?.promptTokens));
  assert.equal(second.finished.report?.promptReran, false);
  await holdsNothing();
});

test('a kept session is released on request, once', async () => {
  const first = await generate(
    cluster.client,
    { maxNewTokens: 2, keepSessionMs: 60_000 },
    idParts(needleSample(0).prompt.slice(0, 300)),
  );
  const request = { sessionId: first.sessionId };
  assert.deepEqual(await unaryCall(cluster.client, 'releaseSession', request, CALL), {
    released: true,
  });
  assert.deepEqual(await unaryCall(cluster.client, 'releaseSession', request, CALL), {
    released: false,
  });
  await holdsNothing();
});

test('a kept session is released when its time is over', async () => {
  await generate(
    cluster.client,
    { maxNewTokens: 2, keepSessionMs: 300 },
    idParts(needleSample(0).prompt.slice(0, 300)),
  );
  await holdsNothing();
});

test('a deadline ends a session with DEADLINE_EXCEEDED and frees what it held', async () => {
  const { prompt } = needleSample(1);
  const header = { model: MODEL, maxNewTokens: 4_000, ignoreEos: true, deadlineMs: 700 };
  const parts = idParts(prompt).map((part) => ({ part }));
  await assert.rejects(exchange(cluster.client, [{ header }, ...parts]), {
    code: 4,
    details: /^DEADLINE_EXCEEDED: /,
  });
  await holdsNothing();
});

test('CancelSession ends a running session', async () => {
  const header = { model: MODEL, maxNewTokens: 4_000, ignoreEos: true };
  const parts = idParts(needleSample(0).prompt).map((part) => ({ part }));
  const cancelled: Promise<unknown>[] = [];
  const call = exchange(cluster.client, [{ header }, ...parts], ({ sessionId, token }) => {
    if (token && cancelled.length === 0) {
      cancelled.push(unaryCall(cluster.client, 'cancelSession', { sessionId }, CALL));
    }
  });
  await assert.rejects(call, { code: 1, details: /^CANCELLED: / });
  assert.deepEqual(await Promise.all(cancelled), [{ cancelled: true }]);
  await holdsNothing();
});

test('GenerateText answers in one call as Generate does in a stream', async () => {
  const { prompt, answer } = needleSample(0);
  const response = await unaryCall(
    cluster.client,
    'generateText',
    {
      header: {
        model: MODEL,
        maxNewTokens: 20,
        promptLogprobs: [{ beginToken: 5, endToken: 8 }],
      },
      parts: idParts(prompt),
    },
    CALL,
  );
  assert.deepEqual(
    response.tokens.map(({ tokenId }) => tokenId),
    [...answer, END_ID],
  );
  assert.match(response.text, /\d{7}/);
  assert.equal(response.finished?.finishReason, 'FINISH_REASON_STOP');
  assert.deepEqual(
    response.promptLogprobs.map(({ position, tokenId }) => [position, tokenId]),
    [5, 6, 7].map((position) => [String(position), prompt[position]]),
  );
});

test('CountTokens counts ids as they are and chat with its template', async () => {
  const count = async (parts: Parameters<typeof idParts>[0] | typeof CHAT): Promise<string> => {
    const wire =
      typeof parts[0] === 'number'
        ? idParts(parts as number[])
        : (parts as typeof CHAT).map((message) => ({ message }));
    return (await unaryCall(cluster.client, 'countTokens', { model: MODEL, parts: wire }, CALL))
      .tokens;
  };
  assert.equal(await count([1, 2, 3]), '3');
  const [system] = CHAT;
  assert.ok(system);
  assert.ok(Number(await count(CHAT)) > Number(await count([system])) + 10);
});

test('ListModels describes the served model', async () => {
  const { models } = await unaryCall(cluster.client, 'listModels', {}, CALL);
  assert.equal(models.length, 1);
  const [model] = models;
  assert.equal(model?.name, MODEL);
  assert.match(model.fingerprint, /^[0-9a-f]{32}$/);
  assert.equal(model.maxPositions, String(2 ** 20));
  // 6 layers, K and V, 2 kv heads of 64, bf16.
  assert.equal(model.kvBytesPerToken, String(6 * 2 * 2 * 64 * 2));
  assert.equal(model.vocabSize, 4_096);
  assert.equal(model.lanes, 1);
  assert.deepEqual(model.prefillPolicies, [
    'PREFILL_POLICY_DENSE',
    'PREFILL_POLICY_MINFERENCE',
    'PREFILL_POLICY_FLEXPREFILL',
    'PREFILL_POLICY_A_SHAPE',
  ]);
  assert.deepEqual(model.cachePolicies, ['CACHE_POLICY_FULL']);
});

test('after all of it nothing is held', async () => {
  await holdsNothing();
});
