import assert from '../support/assert.js';
import { test } from 'node:test';
import { NEEDLE_MODEL } from '../support/cluster.js';
import { runCli } from '../support/run.js';

/** Arguments that must fail, and what the one line on stderr names. */
const REFUSED: readonly (readonly [string, readonly string[], RegExp])[] = [
  ['no command', [], /Usage: longshadow/],
  ['an unknown command', ['fly'], /unknown command 'fly'/],
  ['a missing model folder', ['models', 'inspect', '/nowhere'], /MODEL_INVALID.*\/nowhere/],
  [
    'a missing ids file',
    ['greedy', '--model', NEEDLE_MODEL, '--ids', '/no.json', '--count', '1'],
    /\/no\.json/,
  ],
  [
    'a count of 0',
    ['greedy', '--model', NEEDLE_MODEL, '--ids', 'x', '--count', '0'],
    /integer from 1/,
  ],
  [
    'an unknown device',
    ['logits', '--model', 'm', '--ids', 'x', '--out', 'y', '--device', 'tpu'],
    /cpu, reference/,
  ],
  [
    'a router that is not there',
    ['status', '--router', '127.0.0.1:1'],
    /no router answers at 127\.0\.0\.1:1/,
  ],
  [
    'two prompts',
    ['generate', '--router', '127.0.0.1:1', '--model', 'm', '--prompt', 'a', '--file', 'b'],
    /give the prompt once/,
  ],
  [
    'a missing prompt file',
    ['generate', '--router', '127.0.0.1:1', '--model', 'm', '--file', '/no.txt'],
    /^error: BAD_REQUEST: --file \/no\.txt/,
  ],
  [
    'a folder as prompt file',
    ['generate', '--router', '127.0.0.1:1', '--model', 'm', '--file', '/tmp'],
    /^error: BAD_REQUEST: --file \/tmp is a folder/,
  ],
  [
    'a count that wraps around in 32 bits',
    ['generate', '--router', 'h:1', '--model', 'm', '--max-new-tokens', '99999999999'],
    /integer from 1 to 4294967295/,
  ],
  ['a Redis URL that is none', ['up', '--redis', 'nonsense'], /--redis.*redis:\/\/host:port/],
  ['a log level that is none', ['up', '--log-level', 'loud'], /debug.*trace/],
  ['a store where nothing can be made', ['up', '--store', '/proc/x'], /\/proc\/x.*--store/],
  ['more needles than keys', ['demo', '--needles', '500'], /integer from 1 to 64/],
];

for (const [what, args, message] of REFUSED) {
  test(`${what} is one clear error with status 1`, async () => {
    const { stderr } = await runCli(args, { expectCode: 1 });
    assert.match(stderr, message);
    assert.doesNotMatch(stderr, /^\s+at /m, 'no stack trace');
  });
}
