import assert from '../../support/assert.js';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { renderConfiguration } from '../../../scripts/docs/render-configuration.js';
import { renderErrors } from '../../../scripts/docs/render-errors.js';
import { projectFiles, ROOT, readProjectFile } from './project-files.js';

const PAGES = [
  'README.md',
  'ARCHITECTURE.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
  'models/README.md',
  ...projectFiles('docs').filter((path) => path.endsWith('.md')),
];

interface Manifest {
  readonly scripts: Readonly<Record<string, string>>;
}
const manifest = JSON.parse(readProjectFile('package.json')) as Manifest;

test('docs/errors.md is what its code says; npm run docs:gen writes it', () => {
  assert.equal(readProjectFile('docs/errors.md'), renderErrors());
});

test('docs/configuration.md is what its code says; npm run docs:gen writes it', () => {
  assert.equal(readProjectFile('docs/configuration.md'), renderConfiguration());
});

for (const page of PAGES) {
  test(`${page}: every link to a file of the project leads somewhere`, () => {
    for (const [, target = ''] of readProjectFile(page).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^(https?:|#)/.test(target)) continue;
      const path = join(ROOT, dirname(page), target.replace(/#.*$/, ''));
      assert.ok(existsSync(path), `${target} does not exist`);
    }
  });

  test(`${page}: every npm script it names is there`, () => {
    for (const [, name = ''] of readProjectFile(page).matchAll(/npm run (?:-s )?([\w:]+)/g)) {
      assert.ok(name in manifest.scripts, `npm run ${name} does not exist`);
    }
  });

  test(`${page}: every source file and folder it names is there`, () => {
    const path = /`((?:services|native|proto|scripts|test|deploy|k8s|models|docs)\/[\w./-]*)`/g;
    for (const [, name = ''] of readProjectFile(page).matchAll(path)) {
      // Made by a build; git-ignored.
      if (name.startsWith('proto/gen')) continue;
      assert.ok(existsSync(join(ROOT, name)), `${name} does not exist`);
    }
  });
}

test('the walk-through names files, and enough of them to follow a request', () => {
  const names = readProjectFile('docs/request-walkthrough.md').matchAll(/`[\w/.-]+\.(?:ts|cc)`/g);
  assert.ok([...names].length >= 30);
});

test("the README's first screen is one sentence, then the two commands", () => {
  const lines = readProjectFile('README.md').split('\n');
  assert.equal(lines[0], '# Longshadow');
  assert.match(lines[2] ?? '', /^Longshadow is [^.]*\.$/);
  assert.deepEqual(lines.slice(4, 7), [
    '```sh',
    'npm run demo    # installs what is missing, builds, starts the whole cluster and asks it about a book',
    'npm test        # every test, from the same fresh clone',
  ]);
});

test('every npm script runs a file of the project or a tool it depends on', () => {
  for (const [name, command] of Object.entries(manifest.scripts)) {
    for (const [file] of command.matchAll(/scripts\/[\w./-]+/g)) {
      assert.ok(existsSync(join(ROOT, file)), `${name}: ${file} does not exist`);
    }
  }
});
