import assert from '../../../../support/assert.js';
import { test } from 'node:test';
import { makeTask } from '../../../../support/eval-tasks.js';
import { oneShotEncoder, tokenizerFolders } from '../../../platform/tokenizer/tokenizer-folders.js';

/** A word of the book has fewer tokens than this in every vocabulary. */
const WORD_TOKENS = 24;

for (const { name, directory } of tokenizerFolders()) {
  test(`prompts are fitted exactly with the tokenizer of ${name}`, async () => {
    const encode = oneShotEncoder(directory);
    const counter = async (text: string): Promise<number> => (await encode(text)).length;
    const lengthTokens = 3_000;
    for (const task of ['niah_multiquery', 'needle']) {
      const request = { counter, lengthTokens, depths: 3 };
      const { promptText, questions } = await makeTask(task, request);
      const lefts = [];
      for (const { questionText, answerPrefix, maxNewTokens } of questions) {
        const prompt = await counter(`${promptText}${questionText}`);
        lefts.push(lengthTokens - prompt - (await counter(answerPrefix)) - maxNewTokens);
      }
      const left = Math.min(...lefts);
      assert.ok(left >= 0 && left < WORD_TOKENS, `${task} has ${left} tokens of room`);
    }
  });
}
