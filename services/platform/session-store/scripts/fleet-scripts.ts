import type { ScriptDefinition } from './script.js';

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

export const FLEET_SCRIPTS = {
  fleetMembers: FLEET_MEMBERS,
  reserveBytes: RESERVE,
  reservedBytes: RESERVED_BYTES,
} as const;
