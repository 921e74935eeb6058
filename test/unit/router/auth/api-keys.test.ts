import assert from '../../../support/assert.js';
import { appendFileSync, chmodSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { apiKeyLine } from '../../../../services/platform/config/api-keys-file.js';
import { makeLog } from '../../../../services/platform/log.js';
import { ApiKeys } from '../../../../services/router/auth/api-keys.js';
import { openApiKeys } from '../../../../services/router/auth/open-api-keys.js';
import { poll } from '../../../support/poll.js';

const log = makeLog('test', 'silent');
const folder = mkdtempSync(join(tmpdir(), 'ls-keys-'));
after(() => {
  rmSync(folder, { recursive: true, force: true });
});

function keysFile(name: string, text: string, mode = 0o600): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

const holds = (keys: ApiKeys, key: string): boolean => {
  try {
    keys.authenticate(`Bearer ${key}`);
    return true;
  } catch {
    return false;
  }
};
/** Until the file was read again: within 1.5 s, or the test fails. */
const until = async (condition: () => boolean): Promise<void> => {
  await poll(condition, (held) => held, 5_000, 20);
};

test('an appended key holds soon, a removed one no more, also when the file is replaced', async () => {
  const path = keysFile('reload', `${apiKeyLine('acme', 'one')}\n`);
  const keys = await ApiKeys.open(path, log);
  try {
    assert.equal(keys.authenticate('Bearer one'), 'acme');
    appendFileSync(path, `${apiKeyLine('zoo', 'two')}\n`);
    await until(() => holds(keys, 'two'));
    assert.ok(holds(keys, 'one'));
    renameSync(keysFile('next', `${apiKeyLine('zoo', 'two')}\n`), path);
    await until(() => !holds(keys, 'one'));
    assert.equal(keys.authenticate('Bearer two'), 'zoo');
    writeFileSync(path, '# nobody\n');
    await until(() => !holds(keys, 'two'));
  } finally {
    keys.close();
  }
});

test('a broken, opened-up or removed file keeps the keys and is logged; a mended one counts again', async () => {
  const path = keysFile('broken', `${apiKeyLine('acme', 'one')}\n`);
  const errors: string[] = [];
  const listening = Object.assign(makeLog('test', 'silent'), {
    error: (fields: { err: Error }) => errors.push(fields.err.message),
  });
  const keys = await ApiKeys.open(path, listening);
  try {
    const broken: [() => void, RegExp][] = [
      [() => writeFileSync(path, `${apiKeyLine('zoo', 'two')}\nrubbish\n`), /line 2/],
      [
        () => {
          writeFileSync(path, `${apiKeyLine('zoo', 'two')}\n`);
          chmodSync(path, 0o644);
        },
        /0644/,
      ],
      [
        () => {
          rmSync(path);
        },
        /ENOENT/,
      ],
    ];
    for (const [index, [breakIt, message]] of broken.entries()) {
      breakIt();
      await until(() => errors.length === index + 1);
      assert.match(errors[index] ?? '', message);
      assert.ok(holds(keys, 'one') && !holds(keys, 'two'));
    }
    keysFile('broken', `${apiKeyLine('zoo', 'two')}\n`);
    await until(() => holds(keys, 'two') && !holds(keys, 'one'));
    assert.equal(errors.length, 3, 'each version is complained of once');
  } finally {
    keys.close();
  }
});

test('a start refuses a file of a bad mode or content, and none at all beyond loopback', async () => {
  const open = async (listenAddress: string, apiKeysFile: string | null) =>
    openApiKeys({ listenAddress, apiKeysFile }, log);
  const line = `${apiKeyLine('acme', 'one')}\n`;
  for (const [path, message] of [
    [keysFile('group', line, 0o640), /ROUTER_API_KEYS_FILE: .*mode 0640/],
    [keysFile('bad', 'rubbish', 0o600), /ROUTER_API_KEYS_FILE: line 1/],
    [join(folder, 'absent'), /ROUTER_API_KEYS_FILE: ENOENT/],
  ] as const) {
    await assert.rejects(open('127.0.0.1:0', path), { code: 'BAD_REQUEST', message });
  }
  for (const address of ['0.0.0.0:7000', '[::]:7000', '192.0.2.1:7000', 'router.example:7000']) {
    const message = /without API keys: set ROUTER_API_KEYS_FILE/;
    await assert.rejects(open(address, null), { code: 'BAD_REQUEST', message });
  }
  for (const address of ['127.0.0.1:0', 'localhost:1', '[::1]:2', 'unix:/run/router.sock']) {
    assert.equal(await open(address, null), null);
  }
  const keys = await open('0.0.0.0:7000', keysFile('good', line));
  assert.equal(keys?.authenticate('Bearer one'), 'acme');
  keys.close();
});
