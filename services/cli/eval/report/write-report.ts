import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { SampleResult } from '../eval-types.js';
import { markdownReport } from './markdown-report.js';
import { orderResults } from './order-results.js';
import { drawPictures } from './pictures.js';
import { summarise } from './summarise.js';
import type { ReportOptions } from './summary-types.js';

const PICTURES_FOLDER = 'pictures';

/**
 * Writes summary.md, summary.json and pictures/*.svg of a run's samples into a folder, which is made
 * if it is not there. The same results and options give the same bytes, whatever the order of the
 * results.
 *
 * @returns the paths written, summary.md first
 * @throws RangeError without results
 */
export async function writeReport(
  results: readonly SampleResult[],
  outFolder: string,
  options: ReportOptions,
): Promise<string[]> {
  if (results.length === 0) throw new RangeError('a report needs results');
  const ordered = orderResults(results, options);
  const summary = summarise(ordered, options);
  const pictures = drawPictures(ordered, summary).map(({ name, title, svg }) => ({
    path: `${PICTURES_FOLDER}/${name}.svg`,
    title,
    svg,
  }));
  const files = [
    { path: 'summary.md', text: markdownReport(summary, pictures, options) },
    { path: 'summary.json', text: `${JSON.stringify({ ...options, ...summary }, null, 2)}\n` },
    ...pictures.map(({ path, svg }) => ({ path, text: svg })),
  ];
  await mkdir(join(outFolder, PICTURES_FOLDER), { recursive: true });
  for (const { path, text } of files) await writeFile(join(outFolder, path), text);
  return files.map(({ path }) => join(outFolder, path));
}
