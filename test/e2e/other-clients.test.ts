import assert from '../support/assert.js';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Client, credentials, Metadata } from '@grpc/grpc-js';
import { service as healthService } from 'grpc-health-check';
import { MODEL, startTestCluster, type TestCluster } from '../support/cluster.js';
import { needleSample } from '../support/needle-samples.js';
import { run } from '../support/run.js';

const PROJECT = join(import.meta.dirname, '../..');
const PYTHON = '/usr/bin/python3';
const SERVICES = ['router', 'worker', 'decode'] as const;

let cluster: TestCluster;
let folder: string;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'longshadow-test-'));
  cluster = await startTestCluster();
});
after(async () => {
  await cluster.stop();
  rmSync(folder, { recursive: true, force: true });
});

function addressOf(role: string): string {
  const member = cluster.cluster.members.find((candidate) => candidate.role === role);
  assert.ok(member, role);
  return member.address;
}

/** Null where the Debian packages are missing on a developer's machine. */
function pythonProblem(): string | null {
  const { status, stderr } = spawnSync(PYTHON, ['-c', 'import grpc, grpc_tools'], {
    encoding: 'utf8',
  });
  if (status === 0) return null;
  const problem = `apt-get install -y python3-grpcio python3-grpc-tools (${stderr})`;
  assert.equal(process.env['CI'], undefined, problem);
  return problem;
}

test('a Python client with stubs from our protos uploads in parts and gets the answer', async (t) => {
  const problem = pythonProblem();
  if (problem !== null) {
    t.skip(problem);
    return;
  }
  await run(PYTHON, [
    '-m',
    'grpc_tools.protoc',
    `--proto_path=${join(PROJECT, 'proto')}`,
    `--python_out=${folder}`,
    `--grpc_python_out=${folder}`,
    'longshadow/router/v1/router_service.proto',
  ]);
  const { prompt, answer } = needleSample(0);
  const script = join(import.meta.dirname, 'python/ask_longshadow.py');
  const { stdout } = await run(PYTHON, [script, folder, cluster.address], {
    input: JSON.stringify({ model: MODEL, ids: prompt, part_ids: 100, max_new_tokens: 20 }),
  });
  const result = JSON.parse(stdout) as {
    ids: number[];
    text: string;
    finish_reason: string;
    prompt_tokens: number;
    events: string[];
    models: string[];
    refusal: [string, string];
  };
  assert.deepEqual(result.models, [MODEL]);
  assert.deepEqual(result.ids.slice(0, answer.length), answer);
  assert.match(result.text, /\d{7}/);
  assert.equal(result.finish_reason, 'FINISH_REASON_STOP');
  assert.equal(result.prompt_tokens, prompt.length);
  assert.equal(result.events[0], 'accepted');
  assert.equal(result.events.at(-1), 'finished');
  assert.equal(result.refusal[0], 'NOT_FOUND');
  assert.match(result.refusal[1], /^UNKNOWN_MODEL: /);
});

for (const role of SERVICES) {
  const fullName = `longshadow.${role}.v1.${role[0]?.toUpperCase() ?? ''}${role.slice(1)}Service`;

  test(`the ${role} tells its health, as a whole and by service`, async () => {
    for (const service of ['', fullName]) {
      assert.equal(await healthOf(addressOf(role), service), 'SERVING');
    }
    await assert.rejects(healthOf(addressOf(role), 'longshadow.nobody'), /NOT_FOUND/);
  });

  test(`the ${role} is called through reflection alone`, async () => {
    const buf = join(PROJECT, 'node_modules/.bin/buf');
    const { stdout } = await run(buf, [
      'curl',
      '--protocol',
      'grpc',
      '--http2-prior-knowledge',
      `http://${addressOf(role)}/${fullName}/GetStatus`,
      '-d',
      '{}',
    ]);
    const response = JSON.parse(stdout) as { memberId?: string; members?: { role: string }[] };
    if (role === 'router') {
      assert.deepEqual(response.members?.map((member) => member.role).sort(), ['decode', 'worker']);
    } else {
      assert.match(response.memberId ?? '', new RegExp(`^${role}-`));
    }
  });
}

function healthOf(address: string, service: string): Promise<string> {
  const client = new Client(address, credentials.createInsecure());
  const check = healthService['Check'];
  assert.ok(check);
  return new Promise<string>((resolve, reject) => {
    client.makeUnaryRequest(
      check.path,
      check.requestSerialize,
      check.responseDeserialize as (bytes: Buffer) => { status: string },
      { service },
      new Metadata(),
      { deadline: Date.now() + 10_000 },
      (error, response) => {
        if (error) reject(error);
        else resolve(response?.status ?? '');
      },
    );
  }).finally(() => {
    client.close();
  });
}
