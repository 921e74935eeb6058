import assert from '../support/assert.js';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { NEEDLE_MODEL, startTestCluster, type TestCluster } from '../support/cluster.js';
import { runCli } from '../support/run.js';

const folder = mkdtempSync(join(tmpdir(), 'longshadow-eval-'));
const foreign = join(folder, 'foreign.json');
writeFileSync(foreign, '{}');

/** Refused before a cluster is asked. */
const WRONG: readonly (readonly [string, readonly string[], RegExp])[] = [
  ['no folder', ['needle'], /--out <folder>/],
  ['an unknown subcommand', ['mmlu', '--out', 'x'], /unknown command|too many arguments/],
  ['a length that is none', ['needle', '--lengths', '4Q', '--out', 'x'], /4096, 32K or 1M/],
  [
    'an unknown task',
    ['ruler', '--tasks', 'niah_9', '--out', join(folder, 'a')],
    /RULER has no task niah_9; it has niah_single_1/,
  ],
  [
    'a task without its file',
    ['ruler', '--tasks', 'qa_1', '--out', join(folder, 'a')],
    /qa_1 needs the file of SQuAD/,
  ],
  [
    'a SQuAD file that is none',
    ['ruler', '--tasks', 'qa_1', '--squad', foreign, '--out', join(folder, 'a')],
    /BAD_REQUEST.*foreign\.json/,
  ],
  [
    'a folder without texts',
    ['ppl', '--texts', folder, '--out', join(folder, 'a')],
    /holds no \.txt file/,
  ],
  [
    'a folder that is not there',
    ['longbench', '--data', '/nowhere', '--out', join(folder, 'a')],
    /cannot list \/nowhere/,
  ],
  [
    'an unknown task of a benchmark',
    ['infinitebench', '--data', folder, '--tasks', 'nope', '--out', join(folder, 'a')],
    /nope/,
  ],
  [
    'a cluster that is not there',
    ['needle', '--router', '127.0.0.1:1', '--out', join(folder, 'a')],
    /no router answers at 127\.0\.0\.1:1/,
  ],
];

/** Refused by what the cluster says. */
const REFUSED: readonly (readonly [string, readonly string[], RegExp])[] = [
  ['an unknown model', ['needle', '--model', 'gpt'], /UNKNOWN_MODEL: model "gpt".*served: needle/],
  [
    'a length above the positions of the model',
    ['needle', '--lengths', '1K,2M'],
    /PROMPT_TOO_LONG: --lengths: 2097152 .* 1048576 positions of model needle/,
  ],
  ['an unknown policy', ['needle', '--policies', 'dense,sparse'], /there is no policy "sparse"/],
  [
    'a policy that is not built yet',
    ['needle', '--policies', 'dense,locret'],
    /POLICY_NOT_AVAILABLE: cache_policy locret is not available here; available: full/,
  ],
  [
    'a folder that is no model',
    ['needle', '--tokenizer', folder],
    /MODEL_INVALID.*tokenizer\.json is missing/,
  ],
  [
    'a length without room for the task',
    ['needle', '--lengths', '128'],
    /needle has no room in 128 tokens/,
  ],
];

describe('longshadow eval', () => {
  let servers: TestCluster;
  before(async () => {
    servers = await startTestCluster();
  });
  after(async () => {
    await servers.stop();
    rmSync(folder, { recursive: true });
  });

  for (const [what, args, message] of WRONG) {
    test(`says in one error what is wrong: ${what}`, async () => {
      await isOneError(args, message);
    });
  }

  for (const [what, args, message] of REFUSED) {
    test(`refuses ${what} before work`, async () => {
      const out = join(folder, 'refused');
      await isOneError([...args, '--router', servers.address, '--out', out], message);
      assert.ok(!existsSync(join(out, 'summary.md')));
    });
  }

  test('refuses a tokenizer that is not that of the served model', async () => {
    const other = join(folder, 'other');
    mkdirSync(other);
    const json = JSON.parse(readFileSync(join(NEEDLE_MODEL, 'tokenizer.json'), 'utf8')) as {
      model: { merges: unknown[] };
    };
    json.model.merges = json.model.merges.slice(0, 100);
    writeFileSync(join(other, 'tokenizer.json'), JSON.stringify(json));
    const config = readFileSync(join(NEEDLE_MODEL, 'tokenizer_config.json'));
    writeFileSync(join(other, 'tokenizer_config.json'), config);
    const args = ['needle', '--tokenizer', other, '--out', join(folder, 'b')];
    const wanted = /MODEL_INVALID: the tokenizer of .*give --tokenizer the folder of the served/;
    await isOneError([...args, '--router', servers.address], wanted);
  });

  test('shows examples of each subcommand', async () => {
    for (const name of ['ruler', 'needle', 'midprompt', 'ppl', 'infinitebench', 'longbench']) {
      const { stdout } = await runCli(['eval', name, '--help']);
      assert.match(stdout, new RegExp(`Examples:\n  longshadow eval ${name} `));
    }
  });
});

async function isOneError(args: readonly string[], message: RegExp): Promise<void> {
  const { stderr } = await runCli(['eval', ...args], { expectCode: 1 });
  assert.match(stderr, message);
  assert.equal(stderr.match(/^error: /gm)?.length, 1, stderr);
  assert.doesNotMatch(stderr, /\n\s+at /, 'a stack');
}
