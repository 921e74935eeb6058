import assert from '../../../../support/assert.js';
import { test } from 'node:test';
import fc from 'fast-check';
import { METRIC_NAMES, type MetricName } from '../../../../../services/cli/eval/eval-types.js';
import { chineseWords } from '../../../../../services/cli/eval/score/chinese-words.js';
import { score, scoreAnswer } from '../../../../../services/cli/eval/score/score.js';

type Case = readonly [
  metric: MetricName,
  prediction: string,
  references: readonly string[],
  want: number,
];

function hold(cases: readonly Case[]): void {
  for (const [metric, prediction, references, want] of cases) {
    const got = score(metric, prediction, references);
    assert.ok(Math.abs(got - want) < 1e-9, `${metric} of ${prediction}: ${got} for ${want}`);
  }
}

test('RULER looks for the references in the prediction, whatever the case', () => {
  hold([
    ['string_match_all', ' 123 and 456', ['123', '456', '789', '000'], 0.5],
    ['string_match_all', 'BLUE-Whale.', ['blue-whale'], 1],
    ['string_match_all', 'nothing', [], 0],
    ['string_match_part', 'the second one', ['first', 'second'], 1],
    ['string_match_part', 'neither', ['first', 'second'], 0],
  ]);
});

test('RULER turns control characters into line breaks and strips them at the ends', () => {
  hold([
    ['string_match_all', 'VAR\tABC', ['var\nabc'], 1],
    ['string_match_all', '\u0000ABC\u0000', ['abc'], 1],
    ['string_match_all', 'ABC\u0000', ['abc\n'], 0],
  ]);
});

test('English F1 drops case, punctuation and articles, and takes the best reference', () => {
  hold([
    ['qa_f1', 'The Hebrides!', ['the hebrides'], 1],
    ['qa_f1', 'in the Hebrides', ['a castle', 'Hebrides islands'], 0.5],
    ['qa_f1', 'théa thé', ['théa thé'], 1],
    ['qa_f1', 'thé', ['thé a'], 1],
    ['qa_f1', 'yes', ['no'], 0],
    ['qa_f1', '', ['word'], 0],
    ['qa_f1', 'right\nPassage: wrong wrong', ['right'], 0.4],
    ['qa_f1_first_line', '\n\nright\nPassage: wrong wrong', ['right'], 1],
  ]);
});

test('Chinese F1 is over words in LongBench and over characters in InfiniteBench', () => {
  hold([
    // 他 来到 了 网易 against 他 来到 了 大厦: 3 of 4 and 4.
    ['qa_f1_zh', '他来到了网易。', ['他来到了大厦'], 0.75],
    // 他来到了 of 他来到了网易 (6) and 他来到了大厦 (6).
    ['character_f1_zh', '他来到了网易。', ['“他来到了大厦”'], 4 / 6],
    // The published list of punctuation has 》 and not 《.
    ['character_f1_zh', '书》', ['《书》'], 2 / 3],
  ]);
});

test('Chinese words are those that jieba documents for its default mode', () => {
  assert.deepEqual(chineseWords('我来到北京清华大学'), ['我', '来到', '北京', '清华大学']);
  const hidden = ['他', '来到', '了', '网易', '杭研', '大厦'];
  assert.deepEqual(chineseWords('他来到了网易杭研大厦'), hidden, '杭研 is in no dictionary');
});

test('a class counts fully when it alone is named, and less when others are', () => {
  const classes = ['Animal', 'Product', 'Individual', 'Group or organization of person', 'Group'];
  const given = (prediction: string, reference: string) =>
    score('classification', prediction, [reference], classes);
  assert.equal(given('Type: Animal', 'Animal'), 1);
  assert.equal(given('Animal or Product', 'Animal'), 0.5);
  assert.equal(given('Product', 'Animal'), 0);
  assert.equal(given('Group or organization of person', 'Group or organization of person'), 1);
  assert.equal(given('Group or organization of person', 'Group'), 0.5, 'a longer name counts');
  assert.equal(given('Animal\nProduct', 'Product'), 0, 'only the first line is read');
});

test('of two neighbouring parts of the right class the published script drops one', () => {
  assert.equal(score('classification', 'abc', ['abc'], ['a', 'b', 'abc']), 0.5);
  assert.equal(score('classification', 'abc', ['abc'], ['a', 'abc', 'b']), 1);
});

test('a classification without its classes is refused rather than scored', () => {
  assert.throws(() => score('classification', 'Animal', ['Animal']), /against all classes/);
  const question = {
    id: '0',
    questionText: '',
    answerPrefix: '',
    references: ['Animal'],
    metric: 'classification',
    classes: ['Animal', 'Product'],
    maxNewTokens: 1,
    facts: {},
  } as const;
  assert.equal(scoreAnswer(question, 'Animal or Product'), 0.5);
});

test('counting and retrieval give the share of whole numbers that are right', () => {
  hold([
    ['count', '17', ['17'], 1],
    ['count', '17 of 30', ['17'], 0.5],
    ['count', 'none', ['17'], 0],
    ['count', '017', ['17'], 0],
    ['retrieval', 'Paragraph 7', ['Paragraph 7'], 1],
    ['retrieval', 'Paragraph 7, not Paragraph 17', ['Paragraph 7'], 0.5],
    ['retrieval_zh', '段落7', ['段落7'], 1],
    ['retrieval_zh', '段落8', ['段落7'], 0],
  ]);
});

test('InfiniteBench reads numbers where they stand first, last or in a row', () => {
  hold([
    ['first_number', ' 71432. Remember it. 71432', ['71432'], 1],
    ['first_number', 'no 1, but 71432', ['71432'], 0],
    ['last_integer', 'func_1(2) is 3, so the value is: `-14`.', ['-14'], 1],
    ['last_integer', 'It is 007', ['7'], 1],
    ['last_integer', 'It is 4 then', ['4'], 0],
    ['last_integer', '', ['4'], 0],
    ['math_find', 'It is 5.5', ['5.5'], 1],
    ['math_find', '94.', ['94'], 1],
    ['math_find', '94.5', ['94'], 0],
    ['leading_integers', '[1, 4, 8, 9]', ['1', '4', '7', '9'], 0.5],
    ['leading_integers', '[1, 4', ['1', '4', '7', '9'], 0.5],
    ['leading_integers', '1 4 7 9 12', ['1', '4', '7', '9'], 1],
    ['leading_integers', '', ['1'], 0],
  ]);
});

test('InfiniteBench finds a key and a name among the words', () => {
  hold([
    ['kv_retrieval', 'It is "c14c-b8ba".', ['c14c-b8ba'], 1],
    ['kv_retrieval', 'c14c-b8bar', ['c14c-b8ba'], 0],
    ['dialogue_name', ' Ace Rothstein.', ['ACE', 'ACE ROTHSTEIN'], 1],
    ['dialogue_name', 'Rothstein', ['ACE', 'ROTHSTEIN'], 0],
  ]);
});

test('InfiniteBench finds the chosen option by letter, by text and behind a phrase', () => {
  const answer = ['Walking Georgie', 'B'];
  hold([
    ['choice', ' B. Hall Farm', answer, 1],
    ['choice', 'A. Walking Georgie', answer, 0],
    ['choice', 'Walking Georgie', answer, 1],
    ['choice', 'I think the answer is: "Walking Georgie".', answer, 1],
    ['choice', 'The answer is B', answer, 1],
    ['choice', 'The answer is C, not B', answer, 0],
    ['choice', 'Surely B.', answer, 1],
    ['choice', 'Either BC or B', answer, 0],
    ['choice', '', answer, 0],
  ]);
});

test('InfiniteBench finds the wrong function by letter, by name and behind a phrase', () => {
  const answer = ['repack_carchive', 'B'];
  hold([
    ['code_debug', ' B. repack_carchive', answer, 1],
    ['code_debug', 'B', answer, 0],
    ['code_debug', 'The correct option is:\n\n**B**', answer, 1],
    ['code_debug', 'So the answer is: `repack_carchive`', answer, 1],
    ['code_debug', 'The function is: C. The answer is: B', answer, 1],
    ['code_debug', 'The function is: C. My answer: B', answer, 0],
    ['code_debug', 'the answer is:', answer, 0],
  ]);
});

const SELF_SCORING: Partial<Record<MetricName, readonly string[]>> = {
  choice: ['Hall Farm', 'C'],
  code_debug: ['Hall Farm', 'C'],
};

test('property: every metric gives 0 to 1 for any prediction and never fails', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'binary', maxLength: 60 }),
      fc.array(fc.string({ maxLength: 20 }), { maxLength: 3 }),
      (prediction, references) => {
        for (const metric of METRIC_NAMES) {
          const got = score(metric, prediction, SELF_SCORING[metric] ?? references, ['a', 'b']);
          assert.ok(got >= 0 && got <= 1, `${metric} of ${JSON.stringify(prediction)}: ${got}`);
        }
      },
    ),
    { numRuns: 150 },
  );
});

test('a choice that begins with a letter of A to D is that letter, whatever follows', () => {
  assert.equal(score('choice', 'All that matters: the answer is: B', ['Snowfield', 'B']), 0);
  assert.equal(score('choice', 'By then, the answer is: C', ['Snowfield', 'B']), 1);
});
