import { EVENT_SCRIPTS } from './event-scripts.js';
import { FAIR_SHARE_SCRIPTS } from './fair-share-scripts.js';
import { FLEET_SCRIPTS } from './fleet-scripts.js';
import { RECORD_SCRIPTS } from './record-scripts.js';
import type { ScriptDefinition } from './script.js';
import { SESSION_SCRIPTS } from './session-scripts.js';

/** By the names that they get as Redis commands. */
export const SCRIPTS = {
  ...RECORD_SCRIPTS,
  ...EVENT_SCRIPTS,
  ...FLEET_SCRIPTS,
  ...SESSION_SCRIPTS,
  ...FAIR_SHARE_SCRIPTS,
} as const satisfies Record<string, ScriptDefinition>;
