import type { ScriptDefinition } from './script.js';

/**
 * Appends of a session, tokens aside, whose repetition is known. More than a decode can have under
 * way at once: an appended turn makes up to 64 progress events, and two turns may wait together.
 */
export const REMEMBERED_APPENDS = 256;

/**
 * record, stream, events | epoch, event type, token index (how many there are to be before a decode's
 *   finished event; '' for other events), event JSON, channel, ended ms, append id, turn ('' for any), attempt ('' for any), appends to remember
 * Answers the sequence, or the reason of a refusal; another attempt is one of another epoch. Only a
 * finished event or an error closes the turn. An ended record (cancelled, failed) takes
 * nothing but the error that says so. A repetition answers as the first time: append ids are kept in
 * a ring of slots; a token needs no more than the last, since an older one's index has passed. What
 * follows tokens that the stream has not is of an attempt that said them before Redis came back with
 * older data: 'stale-epoch', so that another attempt goes on from what the stream has.
 */
const APPEND_EVENT: ScriptDefinition = {
  numberOfKeys: 3,
  lua: `
local counters = redis.call('HMGET', KEYS[2], 'closed', 'nextToken', 'turn', 'id:' .. ARGV[7])
if counters[4] then return tonumber(counters[4]) end
local record = redis.call('HMGET', KEYS[1], 'epoch', 'ended', 'attempt')
if not record[1] then return 'unknown' end
if record[1] ~= ARGV[1] then return 'stale-epoch' end
if ARGV[9] ~= '' and ARGV[9] ~= record[3] then return 'stale-epoch' end
if ARGV[8] ~= '' and ARGV[8] ~= (counters[3] or '0') then return 'ended' end
local ended = record[2] == '1'
if ended and ARGV[2] ~= 'error' then return 'ended' end
local slot = 'slot:token'
if ARGV[2] == 'token' then
  local nextToken = counters[2] or '0'
  if tonumber(ARGV[3]) < tonumber(nextToken) then return 'duplicate' end
  if counters[1] then return 'ended' end
  if nextToken ~= ARGV[3] then return 'stale-epoch' end
  redis.call('HINCRBY', KEYS[2], 'nextToken', 1)
else
  if counters[1] then return 'ended' end
  if ARGV[3] ~= '' and tonumber(ARGV[3]) > tonumber(counters[2] or '0') then
    return 'stale-epoch'
  end
  slot = 'slot:' .. redis.call('HINCRBY', KEYS[2], 'others', 1) % tonumber(ARGV[10])
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

/**
 * record, stream. Answers the sequence of the last event, 0 before the first, or nil without a
 * record. An ended session's stream may outlive its record: then it counts.
 */
const LAST_SEQUENCE: ScriptDefinition = {
  numberOfKeys: 2,
  lua: `
local sequence = redis.call('HGET', KEYS[2], 'sequence')
if sequence then return tonumber(sequence) end
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
return nil
`,
};

export const EVENT_SCRIPTS = {
  appendEvent: APPEND_EVENT,
  beginTurn: BEGIN_TURN,
  lastSequence: LAST_SEQUENCE,
} as const;
