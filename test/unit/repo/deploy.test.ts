import assert from '../../support/assert.js';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { readComposeFile, renderKustomization, workload } from './manifests.js';
import { ROOT, readProjectFile, unlessThere } from './project-files.js';
import { SETTINGS } from '../../../scripts/docs/render-configuration.js';
import { parseSettings } from '../../../services/platform/config/settings.js';

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

function settingsOf(service: string): (typeof SETTINGS)[number] {
  const found = SETTINGS.find((spec) => spec.service === service);
  assert.ok(found, `no settings for ${service}`);
  return found;
}

/** Every variable is one that the service reads, and the service accepts them all together. */
function assertAccepted(service: string, environment: Readonly<Record<string, string>>): void {
  const spec = settingsOf(service);
  const known = new Set(Object.values(spec.fields).map(({ env }) => env));
  for (const name of Object.keys(environment)) {
    assert.ok(known.has(name), `${service} does not read ${name}`);
  }
  parseSettings(spec, environment);
}

for (const service of SERVICES) {
  test(`the ${service} accepts what compose sets`, () => {
    assertAccepted(service, compose.services[service]?.environment ?? {});
  });

  test(`the ${service} accepts what Kubernetes sets`, { skip: unlessThere('kubectl') }, () => {
    const containers = renderKustomization('k8s/base')
      .filter(({ kind }) => kind === 'Deployment' || kind === 'StatefulSet')
      .flatMap((object) => workload.parse(object).spec.template.spec.containers);
    const { env = [] } = containers.find(({ name }) => name === service) ?? {};
    // The pod's own facts and secrets come from elsewhere.
    const own = env.filter(({ name }) => !name.startsWith('POD_'));
    const values = own.map(({ name, value = 'redis://from-a-secret:6379/0' }) => [name, value]);
    const text = JSON.stringify(Object.fromEntries(values)).replace(/\$\(POD_\w+\)/g, 'pod');
    assertAccepted(service, JSON.parse(text) as Record<string, string>);
  });
}
