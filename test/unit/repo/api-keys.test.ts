import assert from '../../support/assert.js';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { apiKeyDigest, parseApiKeys } from '../../../services/platform/config/api-keys-file.js';
import { requirePrivate } from '../../../services/platform/config/private-file.js';
import { readComposeFile, renderKustomization, workload } from './manifests.js';
import { ROOT, unlessThere } from './project-files.js';

const VARIABLE = 'ROUTER_API_KEYS_FILE';

test('the script makes a key that the router knows, once', { skip: unlessThere('openssl') }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'longshadow-keys-'));
  try {
    const make = (): string => {
      execFileSync('bash', [join(ROOT, 'deploy/scripts/make-api-key.sh'), folder, 'default']);
      return readFileSync(join(folder, 'api-key.txt'), 'utf8').trim();
    };
    const key = make();
    assert.match(key, /^lsk_[A-Za-z0-9_-]{43}$/);
    assert.equal(make(), key, 'a second start keeps it');
    const text = readFileSync(join(folder, 'api-keys.txt'), 'utf8');
    assert.deepEqual(parseApiKeys(text), [{ tenant: 'default', digest: apiKeyDigest(key) }]);
    for (const name of ['api-key.txt', 'api-keys.txt']) {
      assert.equal(statSync(join(folder, name)).mode & 0o777, 0o600, name);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('compose gives the router the keys that it makes, and no other service', () => {
  const { services } = readComposeFile('deploy/compose.cpu.yaml');
  assert.equal(services['router']?.environment[VARIABLE], '/keys/api-keys.txt');
  const holders = Object.entries(services).filter(([, { volumes }]) =>
    volumes.some((volume) => volume.startsWith('keys:')),
  );
  assert.deepEqual(holders.map(([name]) => name).sort(), ['certificates', 'router']);
});

test(
  'Kubernetes mounts the keys where the router reads them, with a mode that it accepts',
  { skip: unlessThere('kubectl') },
  () => {
    const router = renderKustomization('k8s/base').find(
      ({ kind, metadata }) => kind === 'Deployment' && metadata.name === 'longshadow-router',
    );
    const { spec } = workload.parse(router).spec.template;
    const [container] = spec.containers;
    const path = container?.env.find(({ name }) => name === VARIABLE)?.value ?? '';
    const mount = container?.volumeMounts.find(({ mountPath }) => mountPath === dirname(path));
    assert.equal(mount?.name, 'api-keys');
    const text = JSON.stringify(router);
    const [, mode] = /"secretName":"longshadow-api-keys"/.test(text)
      ? (/"defaultMode":(\d+)[^{}]*"items":\[\{"key":"api-keys.txt"/.exec(text) ?? [])
      : [];
    assert.equal(Number(mode), 0o440);
    const mounted = { uid: 0, mode: Number(mode), isFile: () => true };
    requirePrivate(path, mounted, 1_000);
  },
);
