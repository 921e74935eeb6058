/** Cividis in ten steps: dark blue for 0 to yellow for 1, alike for every kind of colour vision. */
const STOPS = [
  [0, 34, 78],
  [8, 51, 112],
  [53, 69, 108],
  [79, 87, 108],
  [102, 105, 112],
  [125, 124, 120],
  [148, 142, 119],
  [174, 163, 113],
  [200, 184, 102],
  [229, 207, 82],
  [254, 232, 56],
] as const;

/** From this score on, dark text is the more readable one. */
const LIGHT_FROM = 0.5;

/** @param score 0 to 1; what is beyond takes the end's colour */
export function heatColour(score: number): string {
  const place = Math.min(Math.max(score, 0), 1) * (STOPS.length - 1);
  const [below, above] = [
    STOPS[Math.floor(place)] ?? STOPS[0],
    STOPS[Math.ceil(place)] ?? STOPS[0],
  ];
  const share = place - Math.floor(place);
  const mixed = below.map((part, at) => Math.round(part + share * ((above[at] ?? part) - part)));
  return `#${mixed.map((part) => part.toString(16).padStart(2, '0')).join('')}`;
}

export function isDark(score: number): boolean {
  return score < LIGHT_FROM;
}
