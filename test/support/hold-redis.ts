/*
 * A parent to be killed: starts a Redis child and a janitor as a cluster does, prints what it
 * holds as JSON, and waits.
 */
import {
  CLUSTER_ID_VARIABLE,
  createClusterDirectories,
} from '../../services/cli/cluster/cluster-directories.js';
import { Janitor } from '../../services/cli/cluster/janitor.js';
import { startRedisChild } from '../../services/cli/cluster/redis-child.js';

const directories = createClusterDirectories(process.argv[2] ?? '');
const environment = { ...process.env, [CLUSTER_ID_VARIABLE]: directories.clusterId };
const janitor = await Janitor.start(directories, environment);
const redis = await startRedisChild(directories.temporary, environment);
janitor.waitFor(redis.child.pid);
console.log(
  JSON.stringify({ directories, redisUrl: redis.url, pids: [redis.child.pid, janitor.pid] }),
);
setInterval(() => undefined, 1_000);
