import assert from '../../support/assert.js';
import { test } from 'node:test';
import { fitLength } from '../../../services/cli/demo/fit-length.js';
import {
  askForNeedle,
  isRightAnswer,
  makeNeedles,
  plantNeedles,
} from '../../../services/cli/demo/needle-prompt.js';

test('needles are the same for a seed and differ between seeds', () => {
  assert.deepEqual(makeNeedles(7, 4), makeNeedles(7, 4));
  assert.notDeepEqual(makeNeedles(7, 4), makeNeedles(8, 4));
});

test('needles have distinct two-word keys and seven-digit numbers', () => {
  const needles = makeNeedles(3, 40);
  assert.equal(new Set(needles.map(({ key }) => key)).size, 40);
  for (const { key, number } of needles) {
    assert.match(key, /^[a-z]+-[a-z]+$/);
    assert.match(number, /^[1-9]\d{6}$/);
  }
});

test('planting keeps the whole text, in order, and puts every needle after a sentence', () => {
  const text = 'One sentence here. Another one there! A third, is it? '.repeat(40);
  const needles = makeNeedles(1, 5);
  let planted = plantNeedles(text, 1_000, needles);
  for (const { key, number } of needles) {
    const line = ` One of the special magic numbers for ${key} is: ${number}. `;
    const at = planted.indexOf(line);
    assert.ok(at > 0, key);
    assert.match(planted[at - 1] ?? '', /[.!?]/);
    planted = planted.replace(line, '');
  }
  assert.equal(planted, text.slice(0, 1_000));
});

test('a text without full stops still holds every needle', () => {
  const needles = makeNeedles(1, 3);
  const planted = plantNeedles('word '.repeat(300), 900, needles);
  for (const { number } of needles) assert.ok(planted.includes(number));
});

test('the question is a user message after the text as system message', () => {
  const [needle] = makeNeedles(1, 1);
  assert.ok(needle);
  assert.deepEqual(askForNeedle('text', needle), [
    { role: 'system', content: 'text' },
    {
      role: 'user',
      content: `What is the special magic number for ${needle.key} mentioned in the text above?`,
    },
  ]);
});

test('an answer is right only if its first number is exactly the needle', () => {
  const needle = { key: 'a-b', number: '1234567', depth: 0 };
  assert.ok(isRightAnswer(' The number is 1234567.', needle));
  assert.ok(!isRightAnswer(' The number is 12345678.', needle));
  assert.ok(!isRightAnswer(' 7654321, no, 1234567', needle));
  assert.ok(!isRightAnswer('', needle));
});

test('the text length is fitted to the token count in a few counts', async () => {
  // 3.7 characters a token, with a bump that makes it uneven, and 50 tokens of template.
  const tokensOf = (characters: number): number =>
    50 + Math.floor(characters / 3.7) + (characters > 60_000 ? 700 : 0);
  let counts = 0;
  const fitted = await fitLength(
    32_000,
    (characters) => {
      counts += 1;
      return Promise.resolve(tokensOf(characters));
    },
    108_800,
    1_200_000,
  );
  assert.equal(fitted.tokens, 32_000);
  assert.equal(tokensOf(fitted.characters), 32_000);
  assert.ok(counts <= 12, String(counts));
});

test('a text that is too short is taken whole', async () => {
  const fitted = await fitLength(32_000, (n) => Promise.resolve(Math.floor(n / 4)), 100_000, 8_000);
  assert.deepEqual(fitted, { characters: 8_000, tokens: 2_000 });
});
