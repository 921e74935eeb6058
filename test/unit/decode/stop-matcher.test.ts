import assert from '../../support/assert.js';
import { test } from 'node:test';
import fc from 'fast-check';
import { StopMatcher } from '../../../services/decode/loop/stop-matcher.js';

/** What a matcher shows of text that comes in pieces. */
function show(stopTexts: string[], pieces: string[]): { text: string; stopped: boolean } {
  const matcher = new StopMatcher(stopTexts);
  let text = '';
  for (const piece of pieces) {
    const match = matcher.push(piece);
    text += match.text;
    if (match.stopped) return { text, stopped: true };
  }
  return { text: text + matcher.flush(), stopped: false };
}

const cases = [
  { name: 'without stop texts all is shown', stops: [], pieces: ['a', 'b'], want: ['ab', false] },
  { name: 'a stop text is cut off', stops: ['END'], pieces: ['say END now'], want: ['say ', true] },
  { name: 'across pieces too', stops: ['END'], pieces: ['say E', 'N', 'D'], want: ['say ', true] },
  { name: 'a false start is shown', stops: ['END'], pieces: ['E', 'NX'], want: ['ENX', false] },
  { name: 'the earliest wins', stops: ['cd', 'b'], pieces: ['abcd'], want: ['a', true] },
  { name: 'overlapping starts', stops: ['aab'], pieces: ['a', 'a', 'a', 'b'], want: ['a', true] },
  { name: 'held text is shown at the end', stops: ['END'], pieces: ['EN'], want: ['EN', false] },
] as const;

for (const { name, stops, pieces, want } of cases) {
  test(`StopMatcher: ${name}`, () => {
    const [text, stopped] = want;
    assert.deepEqual(show([...stops], [...pieces]), { text, stopped });
  });
}

test('StopMatcher shows the same for any split, and never a part of a stop text', () => {
  const letters = fc.constantFrom('a', 'b', 'c');
  const word = fc.string({ unit: letters, minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(
      fc.array(word, { minLength: 1, maxLength: 3 }),
      fc.array(fc.string({ unit: letters, maxLength: 3 }), { maxLength: 20 }),
      (stops, pieces) => {
        const whole = pieces.join('');
        const cuts = stops.map((stop) => whole.indexOf(stop)).filter((at) => at !== -1);
        const want =
          cuts.length === 0
            ? { text: whole, stopped: false }
            : { text: whole.slice(0, Math.min(...cuts)), stopped: true };
        // With pieces, a match is seen when its last character comes: the one that ends first.
        const ends = stops.flatMap((stop) => {
          const at = whole.indexOf(stop);
          return at === -1 ? [] : [at + stop.length];
        });
        const oneByOne = show(stops, Array.from(whole));
        if (ends.length === 0) assert.deepEqual(oneByOne, want);
        else assert.ok(oneByOne.stopped && oneByOne.text.length <= Math.min(...ends));
        assert.deepEqual(show(stops, [whole]), want);
        const shown = show(stops, pieces).text;
        assert.ok(whole.startsWith(shown));
        assert.ok(stops.every((stop) => !shown.includes(stop)));
      },
    ),
  );
});
