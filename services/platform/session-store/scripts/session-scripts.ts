import type { ScriptDefinition } from './script.js';

/*
 * Who listens to a session, and what kept sessions offer.
 */

const NOW_MS = `
local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
`;

/** clients | router id, life ms. By the clock of Redis, since those of routers may differ. */
const ATTACH_CLIENT: ScriptDefinition = {
  numberOfKeys: 1,
  lua: `${NOW_MS}
local now = now_ms()
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[2])), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
`,
};

/** clients. Answers how many routers have attached and not let it run out. */
const ATTACHED_CLIENTS: ScriptDefinition = {
  numberOfKeys: 1,
  lua: `${NOW_MS}
return redis.call('ZCOUNT', KEYS[1], string.format('(%.0f', now_ms()), '+inf')
`,
};

/**
 * kept | session key prefix, limit. Answers at most so many ids, the least recently used first; drops
 * those whose session has ended or is gone.
 */
const LEAST_RECENTLY_USED: ScriptDefinition = {
  numberOfKeys: 1,
  lua: `
local found = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if #found >= tonumber(ARGV[2]) then break end
  if redis.call('HGET', ARGV[1] .. id, 'ended') == '0' then
    found[#found + 1] = id
  else
    redis.call('ZREM', KEYS[1], id)
  end
end
return found
`,
};

/** prefix | session key prefix. Answers the donor's JSON as it is, or nil; drops one whose session is
 * gone. */
const FIND_PREFIX: ScriptDefinition = {
  numberOfKeys: 1,
  lua: `
local donor = redis.call('GET', KEYS[1])
if not donor then return nil end
local readable, fields = pcall(cjson.decode, donor)
local id = readable and type(fields) == 'table' and tostring(fields.sessionId) or ''
if not string.match(id, '^%x+$') then return donor end
if redis.call('HGET', ARGV[1] .. id, 'ended') == '0' then return donor end
redis.call('DEL', KEYS[1])
return nil
`,
};

/**
 * Any number of prefix keys | session id. Deletes those whose donor is the session, or of no readable
 * form; answers how many.
 */
const WITHDRAW_PREFIXES: ScriptDefinition = {
  lua: `
local deleted = 0
for _, key in ipairs(KEYS) do
  local donor = redis.call('GET', key)
  if donor then
    local readable, fields = pcall(cjson.decode, donor)
    if not readable or type(fields) ~= 'table' or fields.sessionId == ARGV[1] then
      deleted = deleted + redis.call('DEL', key)
    end
  end
end
return deleted
`,
};

export const SESSION_SCRIPTS = {
  attachClient: ATTACH_CLIENT,
  attachedClients: ATTACHED_CLIENTS,
  leastRecentlyUsed: LEAST_RECENTLY_USED,
  findPrefix: FIND_PREFIX,
  withdrawPrefixes: WITHDRAW_PREFIXES,
} as const;
