import assert from '../../../../support/assert.js';
import { describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { ServingError, type ErrorCode } from '../../../../../services/domain/serving-error.js';
import { checkPolicies } from '../../../../../services/cli/eval/run/check-cluster.js';
import { EvalCluster } from '../../../../../services/cli/eval/run/eval-cluster.js';
import { Patience } from '../../../../../services/cli/eval/run/patience.js';
import { toPolicy } from '../../../../../services/cli/eval/run/policies.js';
import { PromptHalves } from '../../../../../services/cli/eval/run/prompt-halves.js';
import { RouterUnreachable } from '../../../../../services/cli/rpc/router-error.js';
import { Routers } from '../../../../../services/cli/rpc/routers.js';
import { MODEL, NEEDLE_MODEL } from '../../../../support/cluster.js';

const SILENT = new RouterUnreachable('nobody');
const refusal = (code: ErrorCode, retryAfterMs?: number): ServingError =>
  new ServingError(code, code, retryAfterMs === undefined ? {} : { retryAfterMs });

describe('The patience of a run', () => {
  let nowMs = 0;
  const begin = (): [Patience, (error: Error, atMs: number) => number | null] => {
    nowMs = 0;
    const patience = new Patience(60_000, () => nowMs);
    const row = patience.begin();
    return [
      patience,
      (error, atMs) => {
        nowMs = atMs;
        return patience.pauseAfter(error, row);
      },
    ];
  };

  test('begins with the first failure, however long nothing was asked', () => {
    const [, pause] = begin();
    assert.equal(pause(SILENT, 1_000_000), 1_000);
    assert.equal(pause(refusal('NO_WORKER'), 1_059_999), 1_000);
    assert.equal(pause(SILENT, 1_060_000), null);
  });

  test('begins anew after the cluster was heard', () => {
    const [patience, pause] = begin();
    assert.equal(pause(SILENT, 1), 1_000);
    nowMs = 50_000;
    patience.heard(false);
    assert.equal(pause(SILENT, 70_000), 1_000);
    assert.equal(pause(SILENT, 129_999), 1_000);
    assert.equal(pause(SILENT, 130_000), null);
  });

  test('takes a full cluster at its word, for half an hour without work', () => {
    const [patience, pause] = begin();
    assert.equal(pause(refusal('VALUE_STORE_FULL', 5_000), 1), 5_000);
    assert.equal(pause(refusal('VALUE_STORE_FULL', 5_000_000), 600_000), 60_000);
    assert.equal(pause(refusal('QUEUE_FULL'), 1_800_000), 1_000);
    assert.equal(pause(refusal('VALUE_STORE_FULL', 5_000), 1_800_001), null);
    patience.heard(true);
    assert.equal(pause(refusal('VALUE_STORE_FULL', 5_000), 1_800_002), 5_000);
  });

  test('stands a few losses, and nothing that is wrong', () => {
    const [, pause] = begin();
    const pauses = [1, 2, 3, 4, 5].map((atMs) => pause(refusal('WORKER_LOST'), atMs));
    assert.deepEqual(pauses, [1_000, 1_000, 1_000, 1_000, null]);
    assert.equal(pause(refusal('BAD_REQUEST'), 6), null);
    assert.equal(pause(new Error('a bug'), 7), null);
  });
});

describe('A run with its cluster', () => {
  const routers = new Routers(['127.0.0.1:1'], {});
  const signal = new AbortController().signal;
  const open = (patienceMs: number): EvalCluster =>
    new EvalCluster(routers, MODEL, patienceMs, signal, () => undefined);

  test('tries again after documents took longer than the patience', async () => {
    const cluster = open(20);
    await delay(40);
    let tries = 0;
    const answer = await cluster.surely(
      async () => {
        tries += 1;
        if (tries === 1) throw refusal('NO_WORKER');
        return Promise.resolve('an answer');
      },
      () => false,
    );
    assert.equal(answer, 'an answer');
  });

  test('waits once for what a call inside has waited for', async () => {
    const cluster = open(1);
    let tries = 0;
    const inside = async (): Promise<never> => {
      tries += 1;
      return Promise.reject(refusal('NO_DECODE'));
    };
    const never = (): boolean => false;
    const work = cluster.surely(async () => cluster.surely(inside, never), never);
    await assert.rejects(work, { code: 'NO_DECODE' });
    assert.equal(tries, 2);
  });

  test('asks also for its policies again where no router answers yet', async () => {
    const lost: string[] = [];
    const stop = new AbortController();
    const cluster = new EvalCluster(routers, MODEL, 60_000, stop.signal, (line) => {
      lost.push(line);
      stop.abort();
    });
    const halves = await PromptHalves.load(MODEL, NEEDLE_MODEL);
    await assert.rejects(checkPolicies(cluster, [toPolicy('dense')], halves), /abort/);
    assert.deepEqual(lost, ['no router answers; asking again']);
  });
});
