import assert from '../../../../support/assert.js';
import { describe, test } from 'node:test';
import { setImmediate as tick } from 'node:timers/promises';
import { inParallel } from '../../../../../services/cli/eval/run/in-parallel.js';
import { parseLength } from '../../../../../services/cli/eval/run/parse-length.js';
import { Turnstile } from '../../../../../services/cli/eval/run/turnstile.js';
import { toPolicy } from '../../../../../services/cli/eval/run/policies.js';

describe('Lengths', () => {
  test('are tokens, or thousands and millions of 1,024 and 1,024 squared', () => {
    assert.deepEqual(
      ['4096', '4K', '32k', '1M', ' 2M '].map(parseLength),
      [4_096, 4_096, 32_768, 1_048_576, 2_097_152],
    );
  });

  test('are nothing else', () => {
    for (const text of ['', '0', '4Q', '1.5K', '-1', '99999999999999999M']) {
      assert.equal(parseLength(text), null, text);
    }
  });
});

describe('Policies', () => {
  test('change one side of dense each, and both together', () => {
    const sides = (name: string): unknown[] => {
      const { prefillPolicy, cachePolicy } = toPolicy(name);
      return [prefillPolicy, cachePolicy];
    };
    assert.deepEqual(sides('dense'), ['dense', 'full']);
    assert.deepEqual(sides('flexprefill'), ['flexprefill', 'full']);
    assert.deepEqual(sides('locret'), ['dense', 'locret']);
    assert.deepEqual(sides('dense+full'), ['dense', 'full']);
    assert.deepEqual(sides('minference+full'), ['minference', 'full']);
    assert.deepEqual(sides('locret+dense'), ['dense', 'locret']);
    assert.deepEqual(sides('minference+shadowkv'), ['minference', 'shadowkv']);
    assert.equal(toPolicy('minference+shadowkv').name, 'minference+shadowkv');
  });

  test('may say how many key tiles a query block has', () => {
    assert.equal(toPolicy('minference').tilesPerBlock, null);
    assert.deepEqual(toPolicy('minference@32+shadowkv'), {
      ...{ name: 'minference@32+shadowkv', prefillPolicy: 'minference' },
      ...{ cachePolicy: 'shadowkv', tilesPerBlock: 32 },
    });
  });

  test('that are unknown, or say one side twice, are refused', () => {
    for (const name of [
      'sparse',
      '',
      'toString',
      'minference+',
      'shadowkv+locret',
      'dense+minference',
      'full+dense+full',
      'dense@32',
      'minference@0',
      'minference@',
    ]) {
      assert.throws(() => toPolicy(name), { code: 'POLICY_NOT_AVAILABLE' }, name);
    }
  });
});

describe('Work in parallel', () => {
  test('is never more than it may be, and all is done', async () => {
    let [running, most] = [0, 0];
    const done: number[] = [];
    await inParallel([1, 2, 3, 4, 5, 6, 7], 3, async (item) => {
      running += 1;
      most = Math.max(most, running);
      for (let ticks = 0; ticks < item; ticks += 1) await tick();
      running -= 1;
      done.push(item);
    });
    assert.equal(most, 3);
    assert.deepEqual(
      done.toSorted((a, b) => a - b),
      [1, 2, 3, 4, 5, 6, 7],
    );
  });

  test('ends with the first failure, after what runs besides, and begins nothing more', async () => {
    const [begun, ended]: [number[], number[]] = [[], []];
    const work = inParallel([1, 2, 3, 4], 2, async (item) => {
      begun.push(item);
      await tick();
      if (item === 1) throw new Error('one failed');
      await tick();
      ended.push(item);
    });
    await assert.rejects(work, /one failed/);
    assert.deepEqual(begun, [1, 2]);
    assert.deepEqual(ended, [2]);
  });
});

describe('A turnstile', () => {
  test('lets so many through at a time, in order, also after a failure', async () => {
    const turnstile = new Turnstile(2);
    let [inside, most] = [0, 0];
    const entered: number[] = [];
    const pass = async (item: number): Promise<number> =>
      turnstile.pass(async () => {
        entered.push(item);
        inside += 1;
        most = Math.max(most, inside);
        await tick();
        inside -= 1;
        if (item === 1) throw new Error('one failed');
        return item;
      });
    const results = await Promise.allSettled([0, 1, 2, 3, 4].map(pass));
    assert.deepEqual(entered, [0, 1, 2, 3, 4]);
    assert.equal(most, 2);
    assert.deepEqual(
      results.map(({ status }) => status),
      ['fulfilled', 'rejected', 'fulfilled', 'fulfilled', 'fulfilled'],
    );
    assert.equal(await pass(5), 5);
  });
});
