import assert from '../../support/assert.js';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { cruise, type IConfiguration, type ICruiseResult } from 'dependency-cruiser';
import { ROOT } from './project-files.js';

const { forbidden = [] } = createRequire(import.meta.url)(
  join(ROOT, '.dependency-cruiser.cjs'),
) as IConfiguration;

const folder = mkdtempSync(join(tmpdir(), 'longshadow-imports-'));
after(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** Names of the rules that a tree of `importer -> imported` files breaks. */
async function brokenRules(importer: string, imported: string): Promise<string[]> {
  const base = mkdtempSync(join(folder, 'tree-'));
  const write = (path: string, text: string): void => {
    mkdirSync(dirname(join(base, path)), { recursive: true });
    writeFileSync(join(base, path), text);
  };
  const up = '../'.repeat(importer.split('/').length - 1);
  write(imported, 'export const value = 1;\n');
  write(importer, `export { value } from '${up}${imported}';\n`);
  const { output } = await cruise([importer], {
    baseDir: base,
    validate: true,
    ruleSet: { forbidden },
  });
  const { violations } = (output as ICruiseResult).summary;
  return violations.map(({ rule }) => rule.name);
}

const cases: { importer: string; imported: string; want: string[] }[] = [
  {
    importer: 'services/router/plan/a.mjs',
    imported: 'services/worker/b.mjs',
    want: ['services-meet-over-grpc'],
  },
  {
    importer: 'services/router/plan/a.mjs',
    imported: 'services/router/drive/b.mjs',
    want: [],
  },
  {
    importer: 'services/domain/a.mjs',
    imported: 'services/platform/b.mjs',
    want: ['domain-is-pure'],
  },
  {
    importer: 'services/platform/rpc/a.mjs',
    imported: 'services/decode/b.mjs',
    want: ['platform-knows-no-service'],
  },
  {
    importer: 'services/router/a.mjs',
    imported: 'native/ts/index.ts',
    want: ['router-has-no-engine'],
  },
  { importer: 'services/worker/a.mjs', imported: 'native/ts/index.ts', want: [] },
  {
    importer: 'services/worker/a.mjs',
    imported: 'native/ts/addon.ts',
    want: ['one-door-to-the-engine'],
  },
  {
    importer: 'services/worker/prefill/a.mjs',
    imported: 'proto/gen/b.mjs',
    want: ['wire-types-stay-at-the-edge'],
  },
  { importer: 'services/worker/rpc/a.mjs', imported: 'proto/gen/b.mjs', want: [] },
  {
    importer: 'services/worker/a.mjs',
    imported: 'test/support/b.mjs',
    want: ['nothing-imports-tests'],
  },
];

for (const { importer, imported, want } of cases) {
  const verdict = want.length === 0 ? 'may' : 'may not';
  test(`${importer} ${verdict} import ${imported}`, async () => {
    assert.deepEqual(await brokenRules(importer, imported), want);
  });
}
