/** A piece of finished markup, so that text cannot be mistaken for it. */
export interface Markup {
  readonly markup: string;
}

type Attributes = Readonly<Record<string, string | number>>;

/** Text, attributes and numbers become valid XML; what XML 1.0 cannot hold becomes U+FFFD. */
export function escapeXml(text: string): string {
  return text
    .replace(/[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/gu, '\uFFFD')
    .replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** An element; children that are text are escaped. */
export function element(
  name: string,
  attributes: Attributes,
  children: readonly (Markup | string)[] = [],
): Markup {
  const written = Object.entries(attributes).map(
    ([key, value]) => ` ${key}="${typeof value === 'number' ? round(value) : escapeXml(value)}"`,
  );
  const inner = children.map((child) =>
    typeof child === 'string' ? escapeXml(child) : child.markup,
  );
  const tag = `${name}${written.join('')}`;
  return { markup: inner.length === 0 ? `<${tag}/>` : `<${tag}>${inner.join('')}</${name}>` };
}

/** Text at a point. @param anchor which part of it stands there */
export function label(
  x: number,
  y: number,
  text: string,
  kind: string,
  anchor: 'start' | 'middle' | 'end' = 'start',
): Markup {
  return element('text', { x, y, class: kind, 'text-anchor': anchor }, [text]);
}

export function line(x1: number, y1: number, x2: number, y2: number, kind: string): Markup {
  return element('line', { x1, y1, x2, y2, class: kind });
}

/** Two decimals: a hundredth of a pixel. */
function round(value: number): string {
  return String(Math.round(value * 100) / 100);
}
