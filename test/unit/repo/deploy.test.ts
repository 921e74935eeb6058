import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { readComposeFile } from './manifests.js';
import { ROOT, readProjectFile } from './project-files.js';

const SERVICES = ['router', 'worker', 'decode'] as const;

const compose = readComposeFile('deploy/compose.cpu.yaml');

function dockerfile(service: string): string[] {
  return readProjectFile(`deploy/${service}.Dockerfile`)
    .replace(/\\\n/g, ' ')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));
}

for (const service of SERVICES) {
  test(`the ${service} image has pinned bases, drops root and checks its health by gRPC`, () => {
    const lines = dockerfile(service);
    const bases = lines.filter((line) => line.startsWith('FROM '));
    assert.equal(bases.length, 2);
    for (const base of bases) assert.match(base, /^FROM node:\d+\.\d+\.\d+-bookworm-slim/);
    assert.ok(lines.includes('USER node'));
    const port = lines.find((line) => line.startsWith('EXPOSE '))?.slice('EXPOSE '.length);
    const health = lines.find((line) => line.startsWith('HEALTHCHECK'));
    assert.ok(health?.includes(`"deploy/scripts/health-check.mjs", "127.0.0.1:${port ?? ''}"`));
    assert.ok(lines.at(-1)?.includes(`"dist/services/${service}/main.js"`));
  });

  test(`the ${service} image copies only what the project has`, () => {
    for (const line of dockerfile(service)) {
      const [, sources] = /^COPY (?!--from)(.+) \S+$/.exec(line) ?? [];
      for (const source of sources?.split(' ') ?? []) {
        assert.ok(existsSync(join(ROOT, source)), `${source} does not exist`);
      }
    }
  });

  test(`compose runs the ${service} from its Dockerfile, with certificates, read-only`, () => {
    const entry = compose.services[service];
    assert.ok(entry);
    assert.equal(entry.build?.dockerfile, `deploy/${service}.Dockerfile`);
    assert.equal(entry.read_only, true);
    assert.equal(entry.depends_on['redis']?.condition, 'service_healthy');
    assert.equal(entry.depends_on['certificates']?.condition, 'service_completed_successfully');
    const listen = entry.environment[`${service.toUpperCase()}_LISTEN`];
    const port = dockerfile(service)
      .find((line) => line.startsWith('EXPOSE '))
      ?.slice(7);
    assert.equal(listen, `0.0.0.0:${port ?? ''}`);
    assert.ok(entry.volumes.includes('tls:/tls:ro'));
  });
}

test('the router image carries no native engine', () => {
  const text = dockerfile('router').join('\n');
  assert.doesNotMatch(text, /addon|cmake|libdnnl/);
});

test('compose shares one memory file system between worker and decode, and nothing else', () => {
  assert.equal(compose.volumes['store']?.driver_opts['type'], 'tmpfs');
  const sharers = Object.entries(compose.services)
    .filter(([, { volumes }]) => volumes.includes('store:/store'))
    .map(([name]) => name);
  assert.deepEqual(sharers.sort(), ['decode', 'worker']);
});

test('compose publishes the router alone, on loopback', () => {
  const published = Object.entries(compose.services).flatMap(([name, { ports }]) =>
    ports.map((port) => `${name} ${port}`),
  );
  assert.deepEqual(published, ['router 127.0.0.1:7000:7000']);
});

test('images are pinned to a version everywhere', () => {
  for (const { image } of Object.values(compose.services)) assert.match(image, /:\d+\.\d+\.\d+/);
});
