import { element, label, type Markup } from './svg.js';
import { styleSheet } from './theme.js';

const MARGIN = 20;
const TITLE_Y = 30;
const SUBTITLE_Y = 50;

/** What every picture says about itself. */
export interface PictureHead {
  readonly title: string;
  /** Units, counts and what the marks mean. */
  readonly subtitle: string;
}

/** The least width that holds title and subtitle, by the width of a broad system font. */
export function headWidth({ title, subtitle }: PictureHead): number {
  return Math.ceil(2 * MARGIN + Math.max(title.length * 10.2, subtitle.length * 7));
}

/** A whole SVG file: ground, title, subtitle, drawing. */
export function picture(
  width: number,
  height: number,
  { title, subtitle }: PictureHead,
  drawing: readonly Markup[],
): string {
  const svg = element(
    'svg',
    {
      xmlns: 'http://www.w3.org/2000/svg',
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      role: 'img',
      'aria-labelledby': 'title subtitle',
    },
    [
      element('title', { id: 'title' }, [title]),
      element('desc', { id: 'subtitle' }, [subtitle]),
      element('style', {}, [{ markup: styleSheet() }]),
      element('rect', { width, height, rx: 6, class: 'ground' }),
      label(MARGIN, TITLE_Y, title, 'title'),
      label(MARGIN, SUBTITLE_Y, subtitle, 'note'),
      ...drawing,
    ],
  );
  return `<?xml version="1.0" encoding="UTF-8"?>\n${svg.markup}\n`;
}
