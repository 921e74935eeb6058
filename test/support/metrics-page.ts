/** What a page of /metrics holds of one series. */
export interface ExportedSeries {
  readonly type: string;
  /** Labels of its samples, `service` and `le` not counted. */
  readonly labels: ReadonlySet<string>;
}

const NAME = /^longshadow_\w+$/;

/** The page that a process of this machine serves. */
export async function scrape(port: number): Promise<string> {
  const page = await fetch(`http://127.0.0.1:${String(port)}/metrics`);
  return page.text();
}

/** Our series of a page in Prometheus' text format, by name. */
export function exportedSeries(page: string): Map<string, ExportedSeries> {
  const series = new Map<string, { type: string; labels: Set<string> }>();
  for (const line of page.split('\n')) {
    const [, name = '', type = ''] = /^# TYPE (\w+) (\w+)$/.exec(line) ?? [];
    if (NAME.test(name)) series.set(name, { type, labels: new Set() });
    const [, sample = '', labels = ''] = /^(longshadow_\w+)\{(.*)\} \S+$/.exec(line) ?? [];
    const owner = series.get(sample) ?? series.get(sample.replace(/_(bucket|sum|count)$/, ''));
    for (const [, label = ''] of labels.matchAll(/(\w+)="/g)) {
      if (label !== 'service' && label !== 'le') owner?.labels.add(label);
    }
  }
  return series;
}

/** Sum of the samples that have all of these labels. */
export function sampleSum(page: string, name: string, labels: Record<string, string> = {}): number {
  const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
  return page
    .split('\n')
    .filter((line) => line.startsWith(`${name}{`) && wanted.every((part) => line.includes(part)))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
}

/** The tables of docs/metrics.md, by the heading above them. */
export function documentedSeries(markdown: string): Map<string, Map<string, ExportedSeries>> {
  const sections = new Map<string, Map<string, ExportedSeries>>();
  let section = new Map<string, ExportedSeries>();
  for (const line of markdown.split('\n')) {
    const heading = /^## (.*)$/.exec(line)?.[1];
    if (heading !== undefined) {
      section = new Map();
      sections.set(heading, section);
    }
    const [, name, type, labels = ''] =
      /^\| `(longshadow_\w+)` \| (\w+) \|([^|]*)\|/.exec(line) ?? [];
    if (name === undefined || type === undefined) continue;
    if (section.has(name)) throw new Error(`${name} stands twice in a section`);
    section.set(name, {
      type,
      labels: new Set([...labels.matchAll(/`(\w+)`/g)].map(([, label = '']) => label)),
    });
  }
  return sections;
}
