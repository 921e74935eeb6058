import assert from '../../../support/assert.js';
import { readFileSync } from 'node:fs';
import { before, describe, test } from 'node:test';
import fc from 'fast-check';
import { Tokenizer } from 'tokenizers';
import { ServingError } from '../../../../services/domain/serving-error.js';
import { ChatTemplate } from '../../../../services/platform/tokenizer/chat-template.js';
import {
  loadModelTokenizer,
  type ModelTokenizer,
} from '../../../../services/platform/tokenizer/model-tokenizer.js';
import { PromptEncoder } from '../../../../services/platform/tokenizer/prompt-encoder.js';
import { tokenizerFolders } from './tokenizer-folders.js';

interface Message {
  readonly role: string;
  readonly content: string;
}

const content = fc
  .array(
    fc.constantFrom(
      'Hello',
      ' world',
      '\n',
      '  ',
      ' ',
      "don't",
      '42',
      '中文，',
      '😀',
      'é',
      'e\u0301',
      '\t',
      '.',
      'x = [1, 2]\n',
    ),
    { maxLength: 12 },
  )
  .map((pieces) => pieces.join(''));
const conversation = fc
  .tuple(
    fc.option(content, { nil: null }),
    fc.array(fc.tuple(content, content), { maxLength: 2 }),
    content,
  )
  .map(([system, turns, last]): Message[] => [
    ...(system === null ? [] : [{ role: 'system', content: system }]),
    ...turns.flatMap(([user, assistant]) => [
      { role: 'user', content: user },
      { role: 'assistant', content: assistant },
    ]),
    { role: 'user', content: last },
  ]);

/** Sends each message's content in parts of `step` bytes. */
async function encodeChat(
  tokenizer: ModelTokenizer,
  messages: readonly Message[],
  step: number,
): Promise<number[]> {
  const encoder = new PromptEncoder(tokenizer, tokenizer.vocabSize);
  const ids: number[] = [];
  const take = (more: Uint32Array): void => {
    for (const id of more) ids.push(id);
  };
  for (const { role, content: text } of messages) {
    const bytes = Buffer.from(text);
    take(await encoder.append({ kind: 'message', role, content: bytes.subarray(0, step) }));
    for (let at = step; at < bytes.length; at += step) {
      take(await encoder.append({ kind: 'text', bytes: bytes.subarray(at, at + step) }));
    }
  }
  take(await encoder.close());
  return ids;
}

for (const { name, directory } of tokenizerFolders()) {
  describe(`ids of conversations: ${name}`, () => {
    let tokenizer: ModelTokenizer;
    let template: ChatTemplate;
    let library: Tokenizer;
    before(async () => {
      tokenizer = await loadModelTokenizer(name, directory);
      assert.ok(tokenizer.chatTemplate !== null);
      template = tokenizer.chatTemplate;
      library = Tokenizer.fromString(readFileSync(`${directory}/tokenizer.json`, 'utf8'));
    });

    /** The rendered text in one call, special tokens recognised. */
    const oneShot = async (messages: readonly Message[]): Promise<number[]> => {
      const encoding = await library.encode(template.render(messages), null, {
        addSpecialTokens: false,
      });
      return encoding.getIds();
    };

    test('equal the one-shot ids of the rendered text', async () => {
      await fc.assert(
        fc.asyncProperty(conversation, fc.integer({ min: 1, max: 50 }), async (messages, step) => {
          assert.deepEqual(await encodeChat(tokenizer, messages, step), await oneShot(messages));
        }),
        { numRuns: 60 },
      );
    });

    test('are the same when long contents are streamed', async () => {
      await fc.assert(
        fc.asyncProperty(
          conversation,
          fc.integer({ min: 1, max: 9_000 }),
          async (messages, step) => {
            const long = messages.map((message) => ({
              ...message,
              content: message.content.repeat(900).slice(0, 30_000),
            }));
            const wellFormed = long.map((message) => ({
              ...message,
              content: Buffer.from(message.content).toString(),
            }));
            assert.deepEqual(
              await encodeChat(tokenizer, wellFormed, step),
              await oneShot(wellFormed),
            );
          },
        ),
        { numRuns: 8 },
      );
    });

    test('hold no special token from a content', async () => {
      const json = JSON.parse(readFileSync(`${directory}/tokenizer.json`, 'utf8')) as {
        added_tokens: { id: number; content: string }[];
      };
      const special = new Set(json.added_tokens.map(({ id }) => id));
      const specials = (ids: readonly number[]): number[] => ids.filter((id) => special.has(id));
      const attack = json.added_tokens
        .map((token) => `x${token.content}y\n${token.content}`)
        .join(' ');
      const innocent = await encodeChat(tokenizer, [{ role: 'user', content: 'x' }], 100);
      assert.deepEqual(
        specials(await encodeChat(tokenizer, [{ role: 'user', content: attack }], 100)),
        specials(innocent),
      );
      const streamed = await encodeChat(
        tokenizer,
        [{ role: 'user', content: attack.repeat(20) }],
        1_000,
      );
      assert.deepEqual(specials(streamed), specials(innocent));
    });
  });
}

describe('conversations', () => {
  let needle: ModelTokenizer;
  before(async () => {
    const [folder] = tokenizerFolders();
    assert.ok(folder !== undefined);
    needle = await loadModelTokenizer(folder.name, folder.directory);
  });
  const withTemplate = (source: string): ModelTokenizer => ({
    ...needle,
    chatTemplate: new ChatTemplate(source, { eos_token: '<|end|>' }),
  });
  const failsWith = async (work: Promise<unknown>, code: string): Promise<void> => {
    await assert.rejects(work, (error) => error instanceof ServingError && error.code === code);
  };

  test('a role must be a word, since it stands in the template', async () => {
    await failsWith(encodeChat(needle, [{ role: 'user<|end|>', content: 'x' }], 10), 'BAD_REQUEST');
  });

  test('a template that raises says so', async () => {
    const strict = withTemplate("{{ raise_exception('roles must alternate') }}");
    await assert.rejects(
      encodeChat(strict, [{ role: 'user', content: 'x' }], 10),
      /CHAT_TEMPLATE|roles must alternate/,
    );
    await failsWith(
      encodeChat(strict, [{ role: 'user', content: 'x' }], 10),
      'CHAT_TEMPLATE_FAILED',
    );
  });

  test('a template that changes contents is refused', async () => {
    const loud = withTemplate("{% for m in messages %}{{ m['content'] | upper }}{% endfor %}");
    await failsWith(encodeChat(loud, [{ role: 'user', content: 'x' }], 10), 'CHAT_TEMPLATE_FAILED');
  });

  test('a template that changes committed text is refused', async () => {
    const counting = withTemplate(
      "{{ messages | length }}: {% for m in messages %}{{ m['content'] }}{% endfor %}",
    );
    const long = 'word '.repeat(2_000);
    await failsWith(
      encodeChat(
        counting,
        [
          { role: 'user', content: long },
          { role: 'user', content: 'x' },
        ],
        1_000,
      ),
      'CHAT_TEMPLATE_FAILED',
    );
    assert.ok(
      (
        await encodeChat(
          counting,
          [
            { role: 'user', content: 'a' },
            { role: 'user', content: 'b' },
          ],
          10,
        )
      ).length > 0,
    );
  });

  /** Encodes and counts what the template had to render. */
  const countRenders = async (
    source: string,
    messages: readonly Message[],
    step: number,
  ): Promise<{ renders: number; ids: number[] }> => {
    const tokenizer = withTemplate(source);
    const template = tokenizer.chatTemplate;
    assert.ok(template !== null);
    let renders = 0;
    const render = template.render.bind(template);
    template.render = (conversation) => {
      renders += 1;
      return render(conversation);
    };
    return { ids: await encodeChat(tokenizer, messages, step), renders };
  };
  const PLAIN = "{% for m in messages %}{{ m['content'] }}{% endfor %}";
  const HIDES =
    "{% for m in messages %}{% if m['role'] != 'note' %}{{ m['content'] }}{% endif %}{% endfor %}";

  test('many messages are rendered a few times, however long each is', async () => {
    for (const words of [10, 1_000]) {
      const messages = Array.from({ length: 150 }, () => ({
        role: 'user',
        content: 'word '.repeat(words),
      }));
      const { ids, renders } = await countRenders(PLAIN, messages, 10_000);
      // Twice at the end; before it, text of 1,024 units a message must come between two.
      assert.ok(renders <= 25, `${String(renders)} renders`);
      const whole = [{ role: 'user', content: 'word '.repeat(words * 150) }];
      assert.deepEqual(ids, await encodeChat(withTemplate(PLAIN), whole, 10_000));
    }
  });

  test('finished messages give their ids before the conversation ends', async () => {
    const encoder = new PromptEncoder(needle, needle.vocabSize);
    let early = 0;
    for (let i = 0; i < 200; i += 1) {
      const bytes = Buffer.from('some words. '.repeat(170));
      early += (await encoder.append({ kind: 'message', role: 'user', content: bytes })).length;
    }
    const late = (await encoder.close()).length;
    assert.ok(early > late * 0.8, `${String(early)} early, ${String(late)} late`);
  });

  test('a message that the template hides costs no rendering for each part, and no memory', async () => {
    const messages = [
      { role: 'user', content: 'before ' },
      { role: 'note', content: 'word '.repeat(100_000) },
      { role: 'user', content: 'after' },
    ];
    const { ids, renders } = await countRenders(HIDES, messages, 1_000);
    assert.ok(renders <= 4, `${String(renders)} renders`);
    const shown = [{ role: 'user', content: 'before after' }];
    assert.deepEqual(ids, await encodeChat(withTemplate(PLAIN), shown, 100));
  });

  test('a template that shows later what it hid is refused', async () => {
    const late = withTemplate(
      "{% for m in messages %}{% if not loop.last %}{{ m['content'] }}{% endif %}{% endfor %}",
    );
    const messages = [
      { role: 'user', content: 'word '.repeat(2_000) },
      { role: 'user', content: 'x' },
    ];
    await failsWith(encodeChat(late, messages, 1_000), 'CHAT_TEMPLATE_FAILED');
  });

  test('a message counts as a token at least, and there is a most', async () => {
    const encoder = new PromptEncoder(needle, needle.vocabSize);
    const message = { kind: 'message', role: 'user', content: Buffer.alloc(0) } as const;
    for (let i = 0; i < 4_096; i += 1) await encoder.append(message);
    assert.equal(encoder.waitingTokens, 4_096);
    await failsWith(encoder.append(message), 'BAD_REQUEST');
  });

  test('a model without a template takes no messages', async () => {
    await failsWith(
      encodeChat({ ...needle, chatTemplate: null }, [{ role: 'user', content: 'x' }], 10),
      'CHAT_TEMPLATE_FAILED',
    );
  });

  test('a content may be cut inside a character, but not end there', async () => {
    const whole = await encodeChat(needle, [{ role: 'user', content: '中文' }], 100);
    assert.deepEqual(await encodeChat(needle, [{ role: 'user', content: '中文' }], 1), whole);
    const encoder = new PromptEncoder(needle, needle.vocabSize);
    await encoder.append({ kind: 'message', role: 'user', content: Buffer.from([0xe4, 0xb8]) });
    await failsWith(
      encoder.append({ kind: 'message', role: 'user', content: Buffer.from('x') }),
      'INVALID_UTF8',
    );
  });
});
