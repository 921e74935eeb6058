import type { ScriptDefinition } from './script.js';

/*
 * Start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996) of a worker's tokens among tenants. The
 * hash holds the virtual time v, the start tag of the job that started last, and for every tenant
 * the finish tag of its last job: all in charged tokens.
 */

/** Tokens of virtual time that one step of BullMQ's priority stands for. */
export const PRIORITY_STEP_TOKENS = 2_048;
/** BullMQ's lowest. */
export const MAX_PRIORITY = 2_097_151;

/** A tenant that v has passed owes nothing: it would start at v with a tag or without. */
const PRUNE_TENANTS = `
local function prune_tenants(key, v)
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    if fields[i] ~= 'v' and tonumber(fields[i + 1]) <= v then redis.call('HDEL', key, fields[i]) end
  end
end
`;

/**
 * shares, call | tenant's field, charged tokens, 1 if the queue is idle, life ms, step tokens,
 *   maximal priority, how long to remember the call in ms
 * Answers the priority of the tenant's next job and moves its finish tag. A job that charges nothing
 * starts now. The call's key holds its answer, so that a repetition charges nothing.
 */
const NEXT_PRIORITY: ScriptDefinition = {
  numberOfKeys: 2,
  lua: `${PRUNE_TENANTS}
local answered = redis.call('GET', KEYS[2])
if answered then return tonumber(answered) end
if ARGV[3] == '1' then redis.call('DEL', KEYS[1]) end
local tags = redis.call('HMGET', KEYS[1], 'v', ARGV[1])
local v = tonumber(tags[1] or '0')
local charged = tonumber(ARGV[2])
local start = v
if charged > 0 then
  start = math.max(v, tonumber(tags[2] or '0'))
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', start + charged))
end
redis.call('HSET', KEYS[1], 'v', string.format('%.0f', v))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
prune_tenants(KEYS[1], v)
local priority = math.min(1 + math.floor(start / tonumber(ARGV[5])), tonumber(ARGV[6]))
redis.call('SET', KEYS[2], string.format('%.0f', priority), 'PX', ARGV[7])
return priority
`,
};

/** shares | priority, life ms, step tokens. Virtual time never goes back. */
const SHARE_STARTED: ScriptDefinition = {
  numberOfKeys: 1,
  lua: `${PRUNE_TENANTS}
local before = tonumber(redis.call('HGET', KEYS[1], 'v') or '0')
local v = math.max(before, (tonumber(ARGV[1]) - 1) * tonumber(ARGV[3]))
redis.call('HSET', KEYS[1], 'v', string.format('%.0f', v))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
if v > before then prune_tenants(KEYS[1], v) end
return 1
`,
};

export const FAIR_SHARE_SCRIPTS = {
  nextPriority: NEXT_PRIORITY,
  shareStarted: SHARE_STARTED,
} as const;
