import assert from '../../../../support/assert.js';
import { readFileSync } from 'node:fs';
import { before, describe, test } from 'node:test';
import { Tokenizer } from 'tokenizers';
import { PromptHalves } from '../../../../../services/cli/eval/run/prompt-halves.js';
import type { EvalDocument } from '../../../../../services/cli/eval/eval-types.js';
import {
  loadModelTokenizer,
  type ModelTokenizer,
} from '../../../../../services/platform/tokenizer/model-tokenizer.js';
import {
  PromptEncoder,
  type PromptPart,
} from '../../../../../services/platform/tokenizer/prompt-encoder.js';
import { tokenizerFolders } from '../../../platform/tokenizer/tokenizer-folders.js';

const TEXT = `Call me Ishmael. 東京 🐋 has <|end|> in it.\nThe special number is: 7342911. The end`;
const NO_ANSWER = { questionText: '', answerPrefix: '' };

function documentOf(promptText: string, chat: boolean, wanted: readonly string[]): EvalDocument {
  return {
    ...{ id: 'd', task: 't', lengthTokens: 100, promptText, chat, questions: [] },
    logprobTargets: wanted.map((text) => {
      const beginCharacter = promptText.indexOf(text);
      return { id: text, beginCharacter, endCharacter: beginCharacter + text.length, facts: {} };
    }),
  };
}

for (const { name, directory } of tokenizerFolders()) {
  describe(`Halves of a prompt for ${name}`, () => {
    let tokenizer: ModelTokenizer;
    let halves: PromptHalves;
    before(async () => {
      tokenizer = await loadModelTokenizer(name, directory);
      halves = new PromptHalves(tokenizer);
    });

    test('have the ids that a router makes of the message', async () => {
      const ids = [
        ...(await halves.documentIds({ promptText: TEXT, chat: true })),
        ...(await halves.questionIds(NO_ANSWER, true)),
      ];
      const content = Buffer.from(TEXT);
      const part: PromptPart = halves.hasChat
        ? { kind: 'message', role: 'user', content }
        : { kind: 'text', bytes: content };
      assert.deepEqual(ids, await routerIds(tokenizer, part));
    });

    test('of raw text have the ids that a router makes of the text', async () => {
      const ids = await halves.documentIds({ promptText: TEXT, chat: false });
      const part: PromptPart = { kind: 'text', bytes: Buffer.from(TEXT) };
      assert.deepEqual(ids, await routerIds(tokenizer, part));
    });

    test('count a frame, a document and a question as they are sent', async () => {
      const question = { questionText: '\nWhat is it?', answerPrefix: '' };
      const ids = [
        ...(await halves.documentIds({ promptText: TEXT, chat: true })),
        ...(await halves.questionIds(question, true)),
      ];
      const counted =
        (await halves.frameTokens(true)) +
        (await halves.countTokens(TEXT)) +
        (await halves.countTokens(question.questionText));
      assert.equal(counted, ids.length);
    });

    for (const chat of [true, false]) {
      test(`find the tokens of a span of ${chat ? 'a message' : 'raw text'}`, async () => {
        const document = documentOf(TEXT, chat, ['7342911', '🐋', 'Ishmael']);
        const ids = await halves.documentIds(document);
        const ranges = await halves.targetRanges(document, ids);
        const decoder = Tokenizer.fromString(readFileSync(`${directory}/tokenizer.json`, 'utf8'));
        for (const [at, { id }] of document.logprobTargets.entries()) {
          const { beginToken = 0, endToken = 0 } = ranges[at] ?? {};
          const [whole, less, later] = await Promise.all([
            decoder.decode(ids.slice(beginToken, endToken), false),
            decoder.decode(ids.slice(beginToken, endToken - 1), false),
            decoder.decode(ids.slice(beginToken + 1, endToken), false),
          ]);
          assert.ok(whole.includes(id), `${whole} does not hold ${id}`);
          assert.ok(!less.includes(id), `${less} holds ${id} without its last token`);
          assert.ok(!later.includes(id), `${later} holds ${id} without its first token`);
        }
      });
    }
  });
}

async function routerIds(tokenizer: ModelTokenizer, part: PromptPart): Promise<number[]> {
  const encoder = new PromptEncoder(tokenizer, tokenizer.vocabSize);
  return [...(await encoder.append(part)), ...(await encoder.close())];
}
