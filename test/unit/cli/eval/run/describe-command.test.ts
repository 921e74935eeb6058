import assert from '../../../../support/assert.js';
import { execFileSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { describeCommand } from '../../../../../services/cli/eval/run/describe-command.js';

describe('The command of a report', () => {
  test('leaves out who called, where the cluster was and how hard it was pressed', () => {
    const where = ['--router', '10.0.0.1:7000', '--api-key=secret', '--concurrency', '8'];
    assert.equal(
      describeCommand(['eval', 'needle', ...where, '--lengths', '4K,8K', '--patience=5']),
      'longshadow eval needle --lengths 4K,8K',
    );
  });

  test('names files, not where they were', () => {
    const paths = ['--out', '/home/ada/runs/ruler/', '--squad=/data/ada=1/dev-v2.0.json'];
    assert.equal(
      describeCommand(['eval', 'ruler', ...paths, '--words', '../lists']),
      'longshadow eval ruler --out ruler --squad=dev-v2.0.json --words lists',
    );
  });

  test('is read by a shell as it was given', () => {
    const args = [
      'eval',
      'ppl',
      '--texts',
      "ada's $HOME `x` books",
      '--out=a "b" \\ c',
      '--model',
      '',
    ];
    const [, ...words] = describeCommand(args).split(/^longshadow /);
    const read = execFileSync('sh', ['-c', `printf '%s\\n' ${words.join('')}`], {
      encoding: 'utf8',
    });
    assert.deepEqual(read.split('\n').slice(0, -1), args);
  });
});
