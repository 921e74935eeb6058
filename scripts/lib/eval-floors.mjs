/*
 * What the embedded model is held to by `npm run eval:smoke`. A floor is what was measured less a few
 * answers: raise it when the model gets better. The window that sparse prefill is compared with has a
 * ceiling: where it answers too, the cell tests nothing.
 */

/** Settings of the cluster: prompts of 2K tokens are prefilled sparsely where a policy says so. */
export const SMOKE_SETTINGS = { ROUTER_DENSE_BELOW_TOKENS: '512' };

/** Arguments of `longshadow eval` for each run; every cell of its summary must have a floor. */
export const SMOKE_RUNS = [
  ['needle', '--lengths', '1K,2K', '--documents', '4', '--depths', '5'],
  [
    ...['ruler', '--lengths', '1K', '--documents', '5', '--questions-per-document', '2'],
    ...[
      '--tasks',
      'niah_single_1,niah_single_2,niah_multikey_1,niah_multiquery,niah_multivalue,vt',
    ],
  ],
  ['midprompt', '--lengths', '2K', '--documents', '4', '--policies', 'dense,minference@8'],
  ['ppl', '--lengths', '2K', '--documents', '2'],
];

/**
 * By task, length and policy (none: dense): the least or the most mean score, 0 to 1, or the most nats a
 * token, and of how many answers (or spans), which SMOKE_RUNS decide.
 */
export const FLOORS = {
  'needle 1024': { answers: 20, leastScore: 0.95 },
  'needle 2048': { answers: 20, leastScore: 0.95 },
  'niah_single_1 1024': { answers: 10, leastScore: 0.9 },
  'niah_single_2 1024': { answers: 10, leastScore: 0.9 },
  'niah_multikey_1 1024': { answers: 10, leastScore: 0.9 },
  'niah_multiquery 1024': { answers: 10, leastScore: 0.9 },
  'niah_multivalue 1024': { answers: 10, leastScore: 0.9 },
  'vt 1024': { answers: 10, leastScore: 0.9 },
  'midprompt 2048': { answers: 16, leastScore: 0.95 },
  'midprompt 2048 minference@8': { answers: 16, leastScore: 0.9 },
  'midprompt 2048 a-shape@8': { answers: 16, mostScore: 0.6 },
  'ppl 2048': { answers: 14, mostNatsPerToken: 5.8 },
};
