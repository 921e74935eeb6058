/*
 * Colours of Okabe and Ito, which people with any common colour blindness tell apart; yellow is left
 * out, since it fades on white. Series differ in marker and dashes too. Pictures bring their own
 * ground, light or dark as the reader's system has it, and stay readable where that is not known.
 */

/** Light and dark ground; dense, the first, is the ink. */
const SERIES_COLOURS = [
  ['#1f2328', '#e6edf3'],
  ['#0072b2', '#56b4e9'],
  ['#d55e00', '#ff8c42'],
  ['#009e73', '#2ecfa1'],
  ['#cc79a7', '#e39cc4'],
  ['#b07700', '#e69f00'],
] as const;

const [LIGHT_GROUND, DARK_GROUND] = ['#ffffff', '#0d1117'];

const SERIES_DASHES = ['', '7 4', '2 3', '9 3 2 3', '4 4', '12 3'] as const;

export const SERIES_STYLES = SERIES_COLOURS.length;

/** The style sheet of every picture. */
export function styleSheet(): string {
  const light = SERIES_COLOURS.map(([colour], at) => seriesRules(at, colour, LIGHT_GROUND));
  const dark = SERIES_COLOURS.map(([, colour], at) => seriesRules(at, colour, DARK_GROUND));
  const dashes = SERIES_DASHES.map((dash, at) =>
    dash === '' ? '' : `.path.s${at}{stroke-dasharray:${dash}}`,
  );
  return [
    'text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;font-size:12px}',
    `.ground{fill:${LIGHT_GROUND}}.title{font-size:16px;font-weight:600}.name{font-weight:600}`,
    '.cell{font-size:13px}.on-dark{fill:#ffffff}.on-light{fill:#1a1a1a}',
    '.path{fill:none;stroke-width:2;stroke-linejoin:round}.bar{stroke-width:1.5}',
    ...dashes,
    '.title,.name,.tick{fill:#1f2328}.note{fill:#59636e}',
    '.grid{stroke:#d8dee4;stroke-width:1}.axis,.frame{stroke:#818b98;stroke-width:1}.frame,.empty{fill:none}',
    '.empty{stroke:#818b98;stroke-dasharray:3 3}',
    ...light,
    `@media (prefers-color-scheme:dark){.ground{fill:${DARK_GROUND}}.title,.name,.tick{fill:#e6edf3}.note{fill:#9198a1}.grid{stroke:#30363d}.axis,.frame{stroke:#6e7681}${dark.join('')}}`,
  ].join('');
}

function seriesRules(at: number, colour: string, ground: string): string {
  return (
    `.path.s${at},.bar.s${at}{stroke:${colour}}.mark.s${at},.name.s${at}{fill:${colour}}` +
    `.mark.hollow.s${at}{fill:${ground};stroke:${colour};stroke-width:1.5}`
  );
}
