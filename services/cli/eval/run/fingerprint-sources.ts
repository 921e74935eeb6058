import { readFile } from 'node:fs/promises';
import { readBook } from '../../text/book.js';
import type { TaskFiles, TaskNeed, TaskSources } from '../tasks/task-sources.js';
import { filesFingerprint, textsFingerprint } from './fingerprint-files.js';

/**
 * Fingerprints of the content that documents are really made of, by what it is; also of the defaults,
 * which come with packages and may change with them.
 *
 * @param needs of the tasks; what they do not read is left out
 * @throws ServingError BAD_REQUEST for a file that is missing or wrong
 */
export async function sourceFingerprints(
  needs: readonly TaskNeed[],
  sources: TaskSources,
  files: TaskFiles,
): Promise<Record<string, string>> {
  const prints: Record<string, string> = {};
  for (const need of new Set(needs)) prints[need] = await fingerprint(need, sources, files);
  return prints;
}

async function fingerprint(
  need: TaskNeed,
  sources: TaskSources,
  { haystackFile, squadFile, hotpotFile }: TaskFiles,
): Promise<string> {
  switch (need) {
    case 'words': {
      const { adjectives, nouns, verbs, more } = sources.words();
      const lists = [adjectives, nouns, verbs, more()];
      return textsFingerprint(lists.map((list) => list.join('\n')));
    }
    case 'haystack': {
      const text = haystackFile === undefined ? readBook() : await readFile(haystackFile, 'utf8');
      return textsFingerprint([text]);
    }
    case 'texts':
      return textsFingerprint(sources.texts().map(({ text }) => text));
    case 'squad':
      return filesFingerprint(squadFile === undefined ? [] : [squadFile]);
    case 'hotpot':
      return filesFingerprint(hotpotFile === undefined ? [] : [hotpotFile]);
  }
}
