import assert from '../../support/assert.js';
import { test } from 'node:test';
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatTable,
  tokensPerSecond,
} from '../../../services/cli/output/format.js';

test('bytes are shown in the largest unit that keeps a digit before the point', () => {
  assert.equal(formatBytes(0), '0 B');
  assert.equal(formatBytes(1023), '1023 B');
  assert.equal(formatBytes(1536), '1.5 KiB');
  assert.equal(formatBytes(96 * 2 ** 20), '96.0 MiB');
  assert.equal(formatBytes(3072 * 2 ** 20), '3.0 GiB');
  assert.equal(formatBytes(250 * 2 ** 40), '250 TiB');
});

test('durations change their unit at 1, 10 and 60 seconds and at an hour', () => {
  assert.equal(formatDuration(340), '0.34 s');
  assert.equal(formatDuration(5_540), '5.5 s');
  assert.equal(formatDuration(42_400), '42 s');
  assert.equal(formatDuration(95_500), '1 min 36 s');
  assert.equal(formatDuration(119_700), '2 min 0 s');
  assert.equal(formatDuration(7_500_000), '2 h 5 min');
});

test('counts have thousands separators and rates survive a zero time', () => {
  assert.equal(formatCount(1_048_576.4), '1,048,576');
  assert.equal(tokensPerSecond(500, 250), 2_000);
  assert.equal(tokensPerSecond(500, 0), 0);
});

test('a table pads to the widest cell and aligns numbers right', () => {
  const table = formatTable(
    [{ title: 'NAME' }, { title: 'N', right: true }],
    [
      ['a', '1'],
      ['longer', '22'],
    ],
  );
  assert.equal(table, 'NAME     N\na        1\nlonger  22');
});
