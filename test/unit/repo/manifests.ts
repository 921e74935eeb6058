import { CORE_SCHEMA, load, loadAll, mergeTag } from 'js-yaml';
import { z } from 'zod';
import { outputOf, readProjectFile } from './project-files.js';

const environmentVariable = z.object({ name: z.string(), value: z.string().optional() });

const probe = z.object({
  exec: z.object({ command: z.array(z.string()) }),
  timeoutSeconds: z.number().optional(),
});

const container = z.object({
  name: z.string(),
  image: z.string(),
  env: z.array(environmentVariable).default([]),
  ports: z.array(z.object({ name: z.string(), containerPort: z.number() })),
  readinessProbe: probe,
  livenessProbe: probe,
  lifecycle: z.object({ preStop: z.object({ exec: z.unknown() }) }).optional(),
  resources: z.object({ limits: z.object({ memory: z.string() }) }),
  securityContext: z.object({
    allowPrivilegeEscalation: z.literal(false),
    readOnlyRootFilesystem: z.literal(true),
    capabilities: z.object({ drop: z.tuple([z.literal('ALL')]) }),
  }),
  volumeMounts: z.array(z.object({ name: z.string(), mountPath: z.string() })),
});
export type Container = z.infer<typeof container>;

const podSpec = z.object({
  serviceAccountName: z.string(),
  automountServiceAccountToken: z.literal(false),
  terminationGracePeriodSeconds: z.number(),
  securityContext: z.object({ runAsNonRoot: z.literal(true), runAsUser: z.number().positive() }),
  containers: z.array(container).nonempty(),
  volumes: z
    .array(z.looseObject({ name: z.string(), emptyDir: z.looseObject({}).optional() }))
    .default([]),
});

const labels = z.record(z.string(), z.string());

/** A Deployment or StatefulSet that keeps the rules every pod of ours must keep. */
export const workload = z.object({
  kind: z.enum(['Deployment', 'StatefulSet']),
  metadata: z.object({ name: z.string() }),
  spec: z.object({
    replicas: z.number(),
    serviceName: z.string().optional(),
    selector: z.object({ matchLabels: labels }),
    template: z.object({ metadata: z.object({ labels }), spec: podSpec }),
  }),
});
export type Workload = z.infer<typeof workload>;

const kubernetesObject = z.looseObject({
  apiVersion: z.string(),
  kind: z.string(),
  metadata: z.looseObject({ name: z.string(), namespace: z.string().optional() }),
});
export type KubernetesObject = z.infer<typeof kubernetesObject>;

/** Renders a kustomization as kubectl does. */
export function renderKustomization(folder: string): KubernetesObject[] {
  const documents = loadAll(outputOf('kubectl', 'kustomize', folder));
  return documents.map((document) => kubernetesObject.parse(document));
}

const composeService = z.object({
  image: z.string(),
  build: z.object({ context: z.string(), dockerfile: z.string() }).optional(),
  environment: z.record(z.string(), z.string()).default({}),
  volumes: z.array(z.string()).default([]),
  ports: z.array(z.string()).default([]),
  read_only: z.boolean().default(false),
  depends_on: z.record(z.string(), z.object({ condition: z.string() })).default({}),
});

const composeFile = z.object({
  services: z.record(z.string(), composeService),
  volumes: z.record(
    z.string(),
    z.nullable(z.object({ driver_opts: z.record(z.string(), z.string()) })),
  ),
});
export type ComposeFile = z.infer<typeof composeFile>;

export function readComposeFile(path: string): ComposeFile {
  return composeFile.parse(load(readProjectFile(path), { schema: CORE_SCHEMA.withTags(mergeTag) }));
}
