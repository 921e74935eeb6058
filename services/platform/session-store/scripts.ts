/*
 * The Lua scripts: each is one atomic step, and each may run twice (a command whose connection broke
 * is sent again) with the effect and the answer of one run. Numbers that must stay exact (revisions, epochs,
 * sequences) are compared as the decimal strings that both sides write.
 */

/** A script and how many of its arguments are keys. */
export interface ScriptDefinition {
  readonly numberOfKeys: number;
  readonly lua: string;
}

/** A driver that does not renew within this time has lost the session. */
export const LEASE_MS = 6_000;
/** How long an ended session's record, events and token ids can still be read. */
export const ENDED_MS = 600_000;
/** Token ids of a session that nobody drives any longer. */
export const TOKEN_IDS_MS = 3_600_000;
/**
 * Appends of a session, tokens aside, whose repetition is known. More than a decode can have under
 * way at once: an appended turn makes up to 64 progress events, and two turns may wait together.
 */
export const REMEMBERED_APPENDS = 256;

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
 * record, lease, active | record JSON, epoch, ended, driver id, lease ms, session id
 * Answers 1, or 0 when another record is there already.
 */
const CREATE_SESSION: ScriptDefinition = {
  numberOfKeys: 3,
  lua: `
local stored = redis.call('HGET', KEYS[1], 'record')
if stored then return stored == ARGV[1] and 1 or 0 end
redis.call('HSET', KEYS[1], 'record', ARGV[1], 'revision', '1', 'epoch', ARGV[2], 'ended', ARGV[3])
redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[5])
redis.call('SADD', KEYS[3], ARGV[6])
return 1
`,
};

/**
 * record, stream, events, tokens, lease, active |
 *   record JSON, old revision, new revision, epoch, ended, driver id, session id, ended ms
 * Answers 1, or 0 when the revision is another, the driver does not hold the lease, or an ended
 * session would come back to life. A record that ends here leaves the active set and starts to expire in the same step.
 */
const COMPARE_AND_SET: ScriptDefinition = {
  numberOfKeys: 6,
  lua: `${EXPIRE_SESSION}
if redis.call('GET', KEYS[5]) ~= ARGV[6] then return 0 end
local stored = redis.call('HMGET', KEYS[1], 'record', 'revision', 'ended')
if stored[1] == ARGV[1] then return 1 end
if stored[2] ~= ARGV[2] then return 0 end
if stored[3] == '1' and ARGV[5] == '0' then return 0 end
redis.call('HSET', KEYS[1], 'record', ARGV[1], 'revision', ARGV[3], 'epoch', ARGV[4], 'ended', ARGV[5])
if ARGV[5] == '1' then
  redis.call('SREM', KEYS[6], ARGV[7])
  expire_session({KEYS[1], KEYS[2], KEYS[3], KEYS[4]}, ARGV[8])
end
return 1
`,
};

/**
 * lease, record, tokens | driver id, lease ms, token ids ms
 * Answers 1 when the driver holds the lease now. Also keeps the token ids of a living session from
 * expiring: at most twice in their time to live, since there may be hundreds of keys.
 */
const TAKE_LEASE: ScriptDefinition = {
  numberOfKeys: 3,
  lua: `
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local left = redis.call('PTTL', KEYS[3])
if left >= 0 and left < tonumber(ARGV[3]) / 2 and redis.call('HGET', KEYS[2], 'ended') == '0' then
  for _, begin in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
    redis.call('PEXPIRE', KEYS[3] .. ':' .. begin, ARGV[3])
  end
  redis.call('PEXPIRE', KEYS[3], ARGV[3])
end
return 1
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
 * record, stream, events | epoch, event type, token index ('' for other events), event JSON,
 *   channel, ended ms, append id, turn ('' for any), appends to remember
 * Answers the sequence, or the reason of a refusal. An ended record (cancelled, failed) takes
 * nothing but the error that says so. A repetition answers as the first time: append ids are kept in
 * a ring of slots; a token needs no more than the last, since an older one's index has passed.
 */
const APPEND_EVENT: ScriptDefinition = {
  numberOfKeys: 3,
  lua: `
local counters = redis.call('HMGET', KEYS[2], 'closed', 'nextToken', 'turn', 'id:' .. ARGV[7])
if counters[4] then return tonumber(counters[4]) end
local record = redis.call('HMGET', KEYS[1], 'epoch', 'ended')
if not record[1] then return 'unknown' end
if record[1] ~= ARGV[1] then return 'stale-epoch' end
if ARGV[8] ~= '' and ARGV[8] ~= (counters[3] or '0') then return 'ended' end
local ended = record[2] == '1'
if ended and ARGV[2] ~= 'error' then return 'ended' end
local slot = 'slot:token'
if ARGV[2] == 'token' then
  local nextToken = counters[2] or '0'
  if tonumber(ARGV[3]) < tonumber(nextToken) then return 'duplicate' end
  if counters[1] then return 'ended' end
  if nextToken ~= ARGV[3] then return 'duplicate' end
  redis.call('HINCRBY', KEYS[2], 'nextToken', 1)
else
  if counters[1] then return 'ended' end
  slot = 'slot:' .. redis.call('HINCRBY', KEYS[2], 'others', 1) % tonumber(ARGV[9])
end
local sequence = redis.call('HINCRBY', KEYS[2], 'sequence', 1)
local forgotten = redis.call('HGET', KEYS[2], slot)
if forgotten then redis.call('HDEL', KEYS[2], 'id:' .. forgotten) end
redis.call('HSET', KEYS[2], slot, ARGV[7], 'id:' .. ARGV[7], string.format('%d', sequence))
redis.call('XADD', KEYS[3], string.format('%d-0', sequence), 'e', ARGV[4])
if ARGV[2] == 'finished' or ARGV[2] == 'error' then
  redis.call('HSET', KEYS[2], 'closed', ARGV[2])
end
if ended then
  redis.call('PEXPIRE', KEYS[2], ARGV[6])
  redis.call('PEXPIRE', KEYS[3], ARGV[6])
end
redis.call('PUBLISH', ARGV[5], string.format('%d', sequence))
return sequence
`,
};

/**
 * record, stream. Answers 'open' (also when the turn was begun before and has no token yet),
 * 'unknown', 'ended' or 'busy' (a turn runs).
 */
const BEGIN_TURN: ScriptDefinition = {
  numberOfKeys: 2,
  lua: `
local ended = redis.call('HGET', KEYS[1], 'ended')
if not ended then return 'unknown' end
local counters = redis.call('HMGET', KEYS[2], 'closed', 'nextToken')
if ended == '1' or counters[1] == 'error' then return 'ended' end
if not counters[1] and (counters[2] or '0') ~= '0' then return 'busy' end
if counters[1] then redis.call('HINCRBY', KEYS[2], 'turn', 1) end
redis.call('HDEL', KEYS[2], 'closed', 'nextToken')
return 'open'
`,
};

/** ids set, then the prefix of member keys as argument. Answers the members' JSON; prunes the rest. */
const FLEET_MEMBERS: ScriptDefinition = {
  numberOfKeys: 1,
  lua: `
local found = {}
for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local member = redis.call('GET', ARGV[1] .. id)
  if member then found[#found + 1] = member else redis.call('SREM', KEYS[1], id) end
end
return found
`,
};

/*
 * Reservations of sessions whose record is gone are dropped here, so that a router that died
 * between its steps leaks nothing: but only after the time that an admission may take, because
 * memory is reserved before the record exists.
 */
const PRUNE_RESERVATIONS = `
local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
local function reserved_by_others(key, session, session_prefix, admission_ms)
  local sum, now = 0, now_ms()
  local held = redis.call('HGETALL', key)
  for i = 1, #held, 2 do
    local bytes, since = string.match(held[i + 1], '^(%d+) (%d+)$')
    if now - tonumber(since) > admission_ms
        and redis.call('EXISTS', session_prefix .. held[i]) == 0 then
      redis.call('HDEL', key, held[i])
    elseif held[i] ~= session then
      sum = sum + tonumber(bytes)
    end
  end
  return sum
end
`;

/**
 * reservations | session id, bytes, capacity bytes, session key prefix, admission ms
 * Answers 1, or 0 when the capacity would be passed (what the session held before stays).
 */
const RESERVE: ScriptDefinition = {
  numberOfKeys: 1,
  lua: `${PRUNE_RESERVATIONS}
local others = reserved_by_others(KEYS[1], ARGV[1], ARGV[4], tonumber(ARGV[5]))
if others + tonumber(ARGV[2]) > tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. string.format('%.0f', now_ms()))
return 1
`,
};

/** reservations | session key prefix, admission ms. Answers the sum in bytes, as text. */
const RESERVED_BYTES: ScriptDefinition = {
  numberOfKeys: 1,
  lua: `${PRUNE_RESERVATIONS}
return string.format('%.0f', reserved_by_others(KEYS[1], '', ARGV[1], tonumber(ARGV[2])))
`,
};

/** By the names that they get as Redis commands. */
export const SCRIPTS = {
  createSession: CREATE_SESSION,
  compareAndSetSession: COMPARE_AND_SET,
  takeLease: TAKE_LEASE,
  dropLease: DROP_LEASE,
  expireEndedSession: EXPIRE_ENDED,
  appendEvent: APPEND_EVENT,
  beginTurn: BEGIN_TURN,
  fleetMembers: FLEET_MEMBERS,
  reserveBytes: RESERVE,
  reservedBytes: RESERVED_BYTES,
} as const satisfies Record<string, ScriptDefinition>;
