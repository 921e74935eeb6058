import type { ScriptDefinition } from './script.js';

/** A driver that does not renew within this time has lost the session. */
export const LEASE_MS = 5_000;
/** Token ids of a session that nobody drives any longer. */
export const TOKEN_IDS_MS = 3_600_000;

/** Shared by the scripts that end a session. `keys` are record, stream, events, tokens. */
const EXPIRE_SESSION = `
local function expire_session(keys, ttl)
  for _, begin in ipairs(redis.call('ZRANGE', keys[4], 0, -1)) do
    redis.call('PEXPIRE', keys[4] .. ':' .. begin, ttl)
  end
  for _, key in ipairs(keys) do redis.call('PEXPIRE', key, ttl) end
end
`;

/**
 * record, lease, active | record JSON, epoch, attempt, ended, driver id, lease ms, session id
 * Answers 1, or 0 when another record is there already.
 */
const CREATE_SESSION: ScriptDefinition = {
  numberOfKeys: 3,
  lua: `
local stored = redis.call('HGET', KEYS[1], 'record')
if stored then return stored == ARGV[1] and 1 or 0 end
redis.call('HSET', KEYS[1], 'record', ARGV[1], 'revision', '1',
  'epoch', ARGV[2], 'attempt', ARGV[3], 'ended', ARGV[4])
redis.call('SET', KEYS[2], ARGV[5], 'PX', ARGV[6])
redis.call('SADD', KEYS[3], ARGV[7])
return 1
`,
};

/**
 * record, stream, events, tokens, lease, active |
 *   record JSON, old revision, new revision, epoch, attempt, ended, driver id, session id, ended ms
 * Answers 1, or 0 when the revision is another, the driver does not hold the lease, or an ended
 * session would come back to life. A record that ends here leaves the active set and starts to expire in the same step.
 */
const COMPARE_AND_SET: ScriptDefinition = {
  numberOfKeys: 6,
  lua: `${EXPIRE_SESSION}
if redis.call('GET', KEYS[5]) ~= ARGV[7] then return 0 end
local stored = redis.call('HMGET', KEYS[1], 'record', 'revision', 'ended')
if stored[1] == ARGV[1] then return 1 end
if stored[2] ~= ARGV[2] then return 0 end
if stored[3] == '1' and ARGV[6] == '0' then return 0 end
redis.call('HSET', KEYS[1], 'record', ARGV[1], 'revision', ARGV[3],
  'epoch', ARGV[4], 'attempt', ARGV[5], 'ended', ARGV[6])
if ARGV[6] == '1' then
  redis.call('SREM', KEYS[6], ARGV[8])
  expire_session({KEYS[1], KEYS[2], KEYS[3], KEYS[4]}, ARGV[9])
end
return 1
`,
};

/**
 * lease, record, tokens | driver id, lease ms, token ids ms
 * Answers 'held' when the driver holds the lease now, 'elsewhere' when another one does, 'gone' when
 * there is no record (and takes nothing then: a lease of its own would look like a living session).
 * Also keeps the token ids of a living session from expiring: at most twice in their time to live,
 * since there may be hundreds of keys.
 */
const TAKE_LEASE: ScriptDefinition = {
  numberOfKeys: 3,
  lua: `
local ended = redis.call('HGET', KEYS[2], 'ended')
if not ended then return 'gone' end
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 'elsewhere' end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local left = redis.call('PTTL', KEYS[3])
if left >= 0 and left < tonumber(ARGV[3]) / 2 and ended == '0' then
  for _, begin in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
    redis.call('PEXPIRE', KEYS[3] .. ':' .. begin, ARGV[3])
  end
  redis.call('PEXPIRE', KEYS[3], ARGV[3])
end
return 'held'
`,
};

/** lease | driver id. Answers 1 when the driver held it. */
const DROP_LEASE: ScriptDefinition = {
  numberOfKeys: 1,
  lua: `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
`,
};

/** record, stream, events, tokens, active | session id, ended ms. Answers 1 when it had ended. */
const EXPIRE_ENDED: ScriptDefinition = {
  numberOfKeys: 5,
  lua: `${EXPIRE_SESSION}
if redis.call('HGET', KEYS[1], 'ended') == '0' then return 0 end
redis.call('SREM', KEYS[5], ARGV[1])
if redis.call('PTTL', KEYS[1]) >= 0 then return 1 end
expire_session({KEYS[1], KEYS[2], KEYS[3], KEYS[4]}, ARGV[2])
return 1
`,
};

/**
 * active | session key prefix. Answers the ids of sessions that live and have no lease; drops those
 * without a record from the set.
 */
const UNDRIVEN: ScriptDefinition = {
  numberOfKeys: 1,
  lua: `
local found = {}
for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local record = ARGV[1] .. id
  if redis.call('EXISTS', record .. ':lease') == 0 then
    local ended = redis.call('HGET', record, 'ended')
    if not ended then redis.call('SREM', KEYS[1], id) end
    if ended == '0' then found[#found + 1] = id end
  end
end
return found
`,
};

/**
 * tokens | first position, one past the last, packed ids, token ids ms
 * Answers 1. What was put before is overwritten as far as the new chunk reaches: chunks that begin
 * inside go, and of one that began before it, readers use what is in front of the new one.
 */
const PUT_TOKEN_IDS: ScriptDefinition = {
  numberOfKeys: 1,
  lua: `
for _, begin in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], '(' .. ARGV[2])) do
  redis.call('DEL', KEYS[1] .. ':' .. begin)
  redis.call('ZREM', KEYS[1], begin)
end
redis.call('SET', KEYS[1] .. ':' .. ARGV[1], ARGV[3], 'PX', ARGV[4])
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
`,
};

export const RECORD_SCRIPTS = {
  createSession: CREATE_SESSION,
  compareAndSetSession: COMPARE_AND_SET,
  takeLease: TAKE_LEASE,
  dropLease: DROP_LEASE,
  expireEndedSession: EXPIRE_ENDED,
  undrivenSessions: UNDRIVEN,
  putTokenIds: PUT_TOKEN_IDS,
} as const;
