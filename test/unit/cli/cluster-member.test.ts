import assert from '../../support/assert.js';
import { test } from 'node:test';
import { SupervisedChild } from '../../../services/cli/cluster/child-process.js';
import { Member, type MemberPlan } from '../../../services/cli/cluster/member.js';
import { poll } from '../../support/poll.js';

interface Reported {
  readonly lines: string[];
  readonly failures: string[];
}

/** A member whose process is `sleep`; `mayStart` says whether its n-th start works. */
function sleeper(
  restarts: boolean,
  mayStart: (start: number) => boolean = () => true,
): { readonly member: Member; readonly reported: Reported; readonly starts: (string | null)[] } {
  const starts: (string | null)[] = [];
  const reported: Reported = { lines: [], failures: [] };
  const plan: MemberPlan = {
    role: 'worker',
    name: 'worker-0',
    launch: async (lastAddress, signal) => {
      signal.throwIfAborted();
      starts.push(lastAddress);
      if (!mayStart(starts.length)) throw new Error('no model');
      const child = await SupervisedChild.start('sleep', 'sleep', ['600'], process.env);
      return { child, address: `address-${starts.length}` };
    },
    end: async ({ child }, graceMs) => {
      child.signal('SIGTERM');
      await child.waitOrKill(graceMs);
    },
  };
  const member = new Member(plan, restarts, {
    say: (line) => reported.lines.push(line),
    failed: (why) => reported.failures.push(why),
  });
  return { member, reported, starts };
}

test('a member that dies is started again under its name, and both are told', async () => {
  const { member, reported, starts } = sleeper(true);
  await member.start();
  const firstPid = member.pid;
  const { signal } = await member.kill('SIGKILL');
  assert.equal(signal, 'SIGKILL');
  await poll(
    () => member.running,
    (running) => running,
    5_000,
  );
  await member.stop(1_000);
  assert.notEqual(member.pid, firstPid);
  assert.deepEqual(starts, [null, 'address-1']);
  assert.deepEqual(reported.failures, []);
  assert.deepEqual(reported.lines, [
    `worker-0 (pid ${firstPid}) ended by SIGKILL; it starts again in 1 s`,
    `worker-0 serves again: pid ${member.pid}, address-2`,
  ]);
});

test('a start that fails is tried again after a longer pause', async () => {
  const { member, reported, starts } = sleeper(true, (start) => start !== 2);
  await member.start();
  await member.kill('SIGKILL');
  await poll(
    () => member.running,
    (running) => running,
    10_000,
  );
  await member.stop(1_000);
  assert.equal(starts.length, 3);
  assert.match(reported.lines[1] ?? '', /^worker-0 did not start: no model; .* again in 2 s$/);
});

test('without restarts a death is reported once, and the member stays down', async () => {
  const { member, reported } = sleeper(false);
  await member.start();
  await member.kill('SIGKILL');
  await poll(
    () => reported.failures.length,
    (count) => count > 0,
    5_000,
  );
  assert.match(reported.failures.join(), /^worker-0 \(pid \d+\) ended by SIGKILL; it wrote:/);
  assert.ok(!member.running);
  await member.stop(1_000);
});

test('what a restart or a stop ends is no failure', async () => {
  for (const restarts of [true, false]) {
    const { member, reported, starts } = sleeper(restarts);
    await member.start();
    await member.restart(1_000);
    assert.ok(member.running);
    await member.stop(1_000);
    assert.ok(!member.running);
    assert.equal(starts.length, 2);
    assert.deepEqual(reported, { lines: [], failures: [] });
  }
});

test('a stop during the pause starts nothing more', async () => {
  const { member, starts } = sleeper(true);
  await member.start();
  await member.kill('SIGKILL');
  await member.stop(1_000);
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  assert.equal(starts.length, 1);
  assert.ok(!member.running);
});

test('a restart by hand during the pause is the only one', async () => {
  const { member, starts } = sleeper(true);
  await member.start();
  await member.kill('SIGKILL');
  await member.restart(1_000);
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  assert.equal(starts.length, 2);
  await member.stop(1_000);
});
