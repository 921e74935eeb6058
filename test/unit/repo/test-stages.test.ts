import assert from '../../support/assert.js';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { after, before, describe, test } from 'node:test';

interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly unsteady?: readonly string[];
}

const { nodeTests, filesToRepeat } = (await import(
  new URL('../../../scripts/lib/test-stages.mjs', import.meta.url).href
)) as {
  nodeTests: (folder: string) => Promise<Counts>;
  filesToRepeat: (byFile: Record<string, Counts>, files: readonly string[]) => string[];
};

/** A test that passes when its mark exists, and makes it. */
function secondTimeLucky(mark: string): string {
  return `
    import { existsSync, writeFileSync } from 'node:fs';
    import { test } from 'node:test';
    test('is lucky at the second attempt', () => {
      const isSecond = existsSync(${JSON.stringify(mark)});
      writeFileSync(${JSON.stringify(mark)}, '');
      if (!isSecond) throw new Error('this failure belongs to a test of the test runner');
    });
    test('is always lucky', () => {});`;
}

describe('A stage of the tests', () => {
  let folder: string;
  before(() => {
    mkdirSync('build', { recursive: true });
    folder = relative(process.cwd(), mkdtempSync(join('build', 'test-stages-')));
  });
  after(() => rmSync(folder, { recursive: true }));

  test('fails instead of passing by silence when its folder holds no tests', async () => {
    await assert.rejects(nodeTests(folder), /has no tests/);
  });

  test('names a file that passes at the second attempt, and counts its tests once', async () => {
    const inside = mkdtempSync(join(folder, 'unsteady-'));
    writeFileSync(join(inside, 'lucky.test.ts'), secondTimeLucky(join(inside, 'mark')));
    const { unsteady = [], ...counts } = await inOwnRunner(() => nodeTests(inside));
    assert.deepEqual(counts, { passed: 2, failed: 0, skipped: 0 });
    assert.deepEqual(unsteady, ['is lucky at the second attempt']);
  });

  test('repeats a file whose tests a helper defines, and loses none of them', async () => {
    const inside = mkdtempSync(join(folder, 'helped-'));
    const helper = `
      import { test } from 'node:test';
      export const check = (name, body) => test(name, body);`;
    writeFileSync(join(inside, 'my-helper.ts'), helper);
    const lucky = secondTimeLucky(join(inside, 'mark'));
    const helped = lucky.replace("from 'node:test'", "from './my-helper.js'");
    writeFileSync(
      join(inside, 'helped.test.ts'),
      helped.replaceAll('test(', 'check(').replace('{ test }', '{ check }'),
    );
    const { unsteady, ...counts } = await inOwnRunner(() => nodeTests(inside));
    assert.deepEqual(counts, { passed: 2, failed: 0, skipped: 0 });
    assert.deepEqual(unsteady, ['is lucky at the second attempt']);
  });

  test('fails with a file that fails twice', async () => {
    const inside = mkdtempSync(join(folder, 'broken-'));
    writeFileSync(
      join(inside, 'broken.test.ts'),
      `import { test } from 'node:test';
       test('is broken', () => { throw new Error('meant to fail: a test of the test runner'); });`,
    );
    const counts = await inOwnRunner(() => nodeTests(inside));
    assert.deepEqual(counts, { passed: 0, failed: 1, skipped: 0, unsteady: [] });
  });

  test('does not repeat a whole stage that is broken', () => {
    const one = { passed: 0, failed: 1, skipped: 0 };
    const here = 'test/unit/repo/test-stages.test.ts';
    assert.deepEqual(filesToRepeat({ [here]: one }, [here]), [here]);
    assert.deepEqual(filesToRepeat({ a: one, b: one, c: one, [here]: one }, [here]), []);
    assert.deepEqual(filesToRepeat({ 'test/support/nobody.ts': one }, [here]), []);
  });
});

/** node:test forbids a runner inside a test; without this mark it does not know that it is one. */
async function inOwnRunner<T>(run: () => Promise<T>): Promise<T> {
  const mark = process.env['NODE_TEST_CONTEXT'];
  delete process.env['NODE_TEST_CONTEXT'];
  try {
    return await run();
  } finally {
    if (mark !== undefined) process.env['NODE_TEST_CONTEXT'] = mark;
  }
}
