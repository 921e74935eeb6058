import assert from '../../../../support/assert.js';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import type { SampleResult } from '../../../../../services/cli/eval/eval-types.js';
import type { Summary } from '../../../../../services/cli/eval/report/summary-types.js';
import {
  controlsOf,
  isControl,
  toPolicy,
  withControls,
} from '../../../../../services/cli/eval/run/policies.js';
import { reportRun } from '../../../../../services/cli/eval/run/report-run.js';
import { RunFolder } from '../../../../../services/cli/eval/run/run-folder.js';
import type { RunPlan } from '../../../../../services/cli/eval/run/run-plan.js';
import { PLAN } from '../run/run-samples.js';
import { answers } from './sample-results.js';

async function report(
  t: TestContext,
  plan: Pick<RunPlan, 'policies' | 'tasks'>,
  samples: readonly SampleResult[],
): Promise<{ markdown: string; summary: Summary }> {
  const path = await mkdtemp(join(tmpdir(), 'longshadow-report-run-'));
  t.after(async () => rm(path, { recursive: true }));
  const folder = await RunFolder.open(path, {
    ...PLAN,
    ...plan,
  });
  for (const sample of samples) await folder.add(sample);
  await folder.close();
  const { markdown, files } = await reportRun(folder, 'longshadow eval ruler');
  const summary = JSON.parse(await readFile(files[1] ?? '', 'utf8')) as Summary;
  return { markdown, summary };
}

test('a run with a sparse policy and its control fills the control column', async (t) => {
  const policies = ['dense', 'minference', 'a-shape'];
  const { markdown, summary } = await report(t, { policies, tasks: ['vt', 'cwe'] }, [
    ...answers('cwe', 4_096, 'dense', 98),
    ...answers('cwe', 4_096, 'a-shape', 40),
    ...answers('cwe', 4_096, 'minference', 97),
    ...answers('vt', 4_096, 'dense', 98),
    ...answers('vt', 4_096, 'minference', 97),
    ...answers('vt', 4_096, 'a-shape', 98),
  ]);
  assert.deepEqual(
    summary.rows.map(({ task, policy, role, evidence }) => [task, policy, role, evidence]),
    [
      ['vt', 'dense', 'dense', null],
      ['vt', 'minference', 'sparse', 'none'],
      ['vt', 'a-shape', 'control', null],
      ['cwe', 'dense', 'dense', null],
      ['cwe', 'minference', 'sparse', 'some'],
      ['cwe', 'a-shape', 'control', null],
    ],
    'tasks and policies stand as the plan names them',
  );
  assert.match(markdown, /\| minference \|.*\| no evidence: a-shape does as well as dense \|/);
  assert.match(markdown, /\| a-shape \(control\) \|/);
});

test('a control beside dense alone is marked as a control', async (t) => {
  const { summary } = await report(t, { policies: ['dense', 'window'], tasks: ['vt'] }, [
    ...answers('vt', 4_096, 'dense', 98),
    ...answers('vt', 4_096, 'window', 40),
  ]);
  assert.deepEqual(
    summary.rows.map(({ policy, role }) => [policy, role]),
    [
      ['dense', 'dense'],
      ['window', 'control'],
    ],
  );
});

test('every policy but dense has a control, which changes the same sides', () => {
  const names = [
    ['dense', undefined],
    ['minference', 'a-shape'],
    ['flexprefill', 'a-shape'],
    ['shadowkv', 'window'],
    ['locret', 'window'],
    ['minference+shadowkv', 'a-shape+window'],
    ['minference+full', 'a-shape+full'],
    ['minference@32', 'a-shape@32'],
    ['dense+full', undefined],
    ['locret+flexprefill', 'window+a-shape'],
    ['a-shape', undefined],
    ['constructor', undefined],
  ] as const;
  const controls = controlsOf(names.map(([name]) => name));
  for (const [name, control] of names) {
    assert.equal(new Map(Object.entries(controls)).get(name), control, name);
    if (control !== undefined) assert.ok(isControl(control) && !isControl(name), name);
  }
});

test('a control that is served can be asked for, and another says that it is not yet', () => {
  assert.equal(toPolicy('a-shape').prefillPolicy, 'a-shape');
  assert.equal(toPolicy('a-shape@32').tilesPerBlock, 32);
  assert.throws(() => toPolicy('window'), /the control "window" is not served yet/);
  assert.throws(() => toPolicy('dense+window'), { code: 'POLICY_NOT_AVAILABLE' });
});

test('a policy that is compared with dense gets its control beside it, once', () => {
  const added = [
    ['dense', 'dense'],
    ['dense,minference@32', 'dense,minference@32,a-shape@32'],
    ['minference,dense', 'minference,a-shape,dense'],
    ['dense,minference@8,flexprefill@8', 'dense,minference@8,a-shape@8,flexprefill@8'],
    ['dense,minference@8,minference@16', 'dense,minference@8,a-shape@8,minference@16,a-shape@16'],
    ['dense,a-shape@32,minference@32', 'dense,a-shape@32,minference@32'],
    ['minference@32', 'minference@32'],
    ['dense,shadowkv', 'dense,shadowkv'],
    ['dense,minference+shadowkv', 'dense,minference+shadowkv'],
    ['dense,minference+full', 'dense,minference+full,a-shape+full'],
    ['dense,nonsense', 'dense,nonsense'],
  ] as const;
  for (const [asked, all] of added) assert.equal(withControls(asked.split(',')).join(), all, asked);
});

test('a run without its control says that it is no evidence', async (t) => {
  const policies = ['dense', 'minference@32'];
  const { markdown, summary } = await report(t, { policies, tasks: ['vt'] }, [
    ...answers('vt', 4_096, 'dense', 98),
    ...answers('vt', 4_096, 'minference@32', 97),
  ]);
  assert.equal(summary.rows[1]?.evidence, 'no control');
  assert.match(markdown, /\| minference@32 \|.*\| no evidence: no control ran \|/);
});
