#!/usr/bin/env node
/* Generated types and JavaScript only: for an image whose packages are installed already. */
import { compileTypeScript, generateWireTypes } from './lib/build-steps.mjs';
import { main } from './lib/run.mjs';

await main(async () => {
  await generateWireTypes();
  await compileTypeScript();
});
