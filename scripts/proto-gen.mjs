#!/usr/bin/env node
/* Generates the TypeScript types of messages and services into proto/gen. */
import { generateWireTypes } from './lib/build-steps.mjs';
import { main } from './lib/run.mjs';

await main(generateWireTypes);
