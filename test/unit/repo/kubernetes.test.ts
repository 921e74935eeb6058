import assert from '../../support/assert.js';
import { test } from 'node:test';
import { unlessThere } from './project-files.js';
import {
  renderKustomization,
  workload,
  type Container,
  type KubernetesObject,
  type Workload,
} from './manifests.js';

const skip = unlessThere('kubectl');

function workloadsOf(objects: readonly KubernetesObject[]): Workload[] {
  return objects
    .filter(({ kind }) => kind === 'Deployment' || kind === 'StatefulSet')
    .map((object) => workload.parse(object));
}

function named<T extends { metadata: { name: string } }>(objects: readonly T[], name: string): T {
  const found = objects.find(({ metadata }) => metadata.name === name);
  assert.ok(found, `no object named ${name}`);
  return found;
}

function listensOn({ env, ports }: Container): void {
  const listen = env.find(({ name }) => name.endsWith('_LISTEN'))?.value;
  assert.equal(listen, `0.0.0.0:${ports[0]?.containerPort ?? ''}`);
}

test('the base renders the objects of a cluster, all in one namespace', { skip }, () => {
  const objects = renderKustomization('k8s/base');
  assert.deepEqual(objects.map(({ kind, metadata }) => `${kind}/${metadata.name}`).sort(), [
    'Deployment/longshadow-router',
    'Namespace/longshadow',
    'PodDisruptionBudget/longshadow-engine',
    'PodDisruptionBudget/longshadow-router',
    'Service/longshadow-engine',
    'Service/longshadow-router',
    'ServiceAccount/longshadow-engine',
    'ServiceAccount/longshadow-router',
    'StatefulSet/longshadow-engine',
  ]);
  for (const { kind, metadata } of objects) {
    if (kind !== 'Namespace') assert.equal(metadata.namespace, 'longshadow', metadata.name);
  }
});

test('the single-node overlay adds a Redis and the secret that names it', { skip }, () => {
  const objects = renderKustomization('k8s/overlays/single-node');
  const names = objects.map(({ kind, metadata }) => `${kind}/${metadata.name}`);
  for (const name of ['StatefulSet', 'Service', 'NetworkPolicy', 'Secret']) {
    assert.ok(names.includes(`${name}/longshadow-redis`), name);
  }
  const secret = objects.find(({ kind }) => kind === 'Secret');
  const url = Buffer.from((secret as unknown as { data: { url: string } }).data.url, 'base64');
  assert.equal(url.toString(), 'redis://longshadow-redis:6379/0');
});

test(
  'every pod is locked down, selected by its own labels and named by its service',
  { skip },
  () => {
    // workload.parse() itself refuses a pod that is root, writable, privileged or without probes.
    const objects = renderKustomization('k8s/overlays/single-node');
    const workloads = workloadsOf(objects);
    assert.equal(workloads.length, 3);
    for (const { metadata, spec } of workloads) {
      const podLabels = spec.template.metadata.labels;
      for (const [key, value] of Object.entries(spec.selector.matchLabels)) {
        assert.equal(podLabels[key], value, metadata.name);
      }
      const { serviceName } = spec;
      if (serviceName !== undefined) named(objects, serviceName);
      for (const container of spec.template.spec.containers) {
        const volumes = spec.template.spec.volumes.map(({ name }) => name).concat('data');
        for (const mount of container.volumeMounts) assert.ok(volumes.includes(mount.name));
      }
    }
  },
);

test('router, worker and decode are probed over gRPC on the port they listen on', { skip }, () => {
  const containers = workloadsOf(renderKustomization('k8s/base')).flatMap(
    ({ spec }) => spec.template.spec.containers,
  );
  assert.deepEqual(containers.map(({ name }) => name).sort(), ['decode', 'router', 'worker']);
  for (const container of containers) {
    listensOn(container);
    const address = `127.0.0.1:${container.ports[0]?.containerPort ?? ''}`;
    for (const { exec } of [container.readinessProbe, container.livenessProbe]) {
      assert.deepEqual(exec.command, ['node', 'deploy/scripts/health-check.mjs', address]);
    }
    assert.ok(container.lifecycle, `${container.name} has no preStop`);
  }
});

test('worker and decode share one memory file system and outlive a long chunk', { skip }, () => {
  const { spec } = named(workloadsOf(renderKustomization('k8s/base')), 'longshadow-engine');
  const pod = spec.template.spec;
  const store = pod.volumes.find(({ name }) => name === 'store');
  assert.equal(store?.emptyDir?.['medium'], 'Memory');
  for (const { name, env, volumeMounts } of pod.containers) {
    const mount = volumeMounts.find((candidate) => candidate.name === 'store')?.mountPath;
    assert.ok(mount !== undefined, `${name} does not mount the store`);
    const directory = env.find((variable) => variable.name.endsWith('_STORE_DIR'))?.value;
    assert.ok(directory?.startsWith(`${mount}/`), `${name} keeps its store outside ${mount}`);
  }
  assert.ok(pod.terminationGracePeriodSeconds >= 600);
});
