/* Writes the reference pages that come from code. `npm test` fails when they are stale. */
import { writeFileSync } from 'node:fs';
import { renderConfiguration } from './docs/render-configuration.js';
import { renderErrors } from './docs/render-errors.js';

writeFileSync(new URL('../docs/configuration.md', import.meta.url), renderConfiguration());
writeFileSync(new URL('../docs/errors.md', import.meta.url), renderErrors());
