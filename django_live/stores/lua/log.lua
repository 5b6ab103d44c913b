-- What every script of the log begins with. All keys of a script belong to one topic and share a hash
-- slot.
--
-- An event is the stream entry <offset>-<created>, so one lookup by offset also gives its time.
-- Its fields: t type, d data, x excluded connection, k mark. A mark is the digest of an idempotency
-- key, or "~…", which only says of which append the event was part.
--
-- The head: e epoch, l last, f floor, u when the last event was numbered, c when the newest trimmed
-- one was, o not later than the oldest kept one, t when an append last renewed the expiry of the keys,
-- r when anybody last renewed the head's, s namespace, n name.

local head_key, stream, known = KEYS[1], KEYS[2], KEYS[3]

local function load_head()
  local found = redis.call('HMGET', head_key, 'e', 'l', 'f', 'u', 'c', 'o', 't')
  if not found[1] then
    return nil
  end
  local head = {
    epoch = found[1],
    last = tonumber(found[2]),
    floor = tonumber(found[3]),
    updated = tonumber(found[4]),
    floor_created = tonumber(found[5]),
    oldest = tonumber(found[6]),
    touched = tonumber(found[7]),
  }
  if head.floor < head.last and redis.call('EXISTS', stream) == 0 then
    -- It expired with its newest event, or Redis evicted it.
    head.floor, head.floor_created, head.touched = head.last, head.updated, 0
  end
  return head
end

local function save_head(head)
  redis.call('HSET', head_key, 'e', head.epoch, 'l', text(head.last), 'f', text(head.floor),
    'u', text(head.updated), 'c', text(head.floor_created), 'o', text(head.oldest),
    't', text(head.touched))
end

local function created_of(id)
  return tonumber(string.match(id, '%-(%d+)$'))
end

local function offset_of(id)
  return tonumber(string.match(id, '^(%d+)'))
end

-- What an answer says of an event beside its data, in one text: redis-py reads few long texts much
-- faster than many short ones.
local function header(entry)
  return entry[1] .. ' ' .. entry[2][2] .. ' ' .. entry[2][6]
end

-- When the event with this offset was numbered; nil when it is not there.
local function created_at(offset)
  local found = redis.call('XRANGE', stream, text(offset), text(offset))
  return found[1] and created_of(found[1][1])
end

-- The newest offset that was numbered at this time or before; the floor when none is kept.
local function covered(head, at)
  if head.updated <= at then
    return head.last
  end
  local low, high = head.floor, head.last
  while high - low > 1 do
    local middle = math.floor((low + high) / 2)
    if (created_at(middle) or 0) <= at then
      low = middle
    else
      high = middle
    end
  end
  return low
end

-- Forget the idempotency keys of the events up to this offset: they live as long as their events.
local function forget_keys(head, upto)
  if redis.call('EXISTS', known) == 0 then
    return
  end
  local from = head.floor + 1
  while from <= upto do
    local some = redis.call('XRANGE', stream, text(from), text(upto), 'COUNT', 100)
    if #some == 0 then
      return
    end
    local gone = {}
    for _, entry in ipairs(some) do
      gone[#gone + 1] = entry[2][8]
    end
    redis.call('HDEL', known, unpack(gone))
    from = offset_of(some[#some][1]) + 1
  end
end

-- Remove the events up to this offset, which is above the floor.
local function drop(head, upto)
  forget_keys(head, upto)
  head.floor_created = created_at(upto) or head.updated
  redis.call('XTRIM', stream, 'MINID', text(upto + 1))
  head.floor = upto
  head.oldest = created_at(upto + 1) or 0
end
