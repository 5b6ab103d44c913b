-- What every script of a map begins with. Keys of one map share a hash slot: entries, a hash of
-- "<version>:<value>"; expiries, sorted by when each entry expires, inf for never; meta, the map's
-- version v and fence f.

local entries, expiries, meta = KEYS[1], KEYS[2], KEYS[3]
local REMEMBERED = 86400000 -- ms that a map outlives what it held
local AT_ONCE = 1000 -- what unpack() takes without complaint

local function is_live(key, now)
  local expires = redis.call('ZSCORE', expiries, key)
  -- Where Redis evicted one of the two, the entry is gone.
  return expires and tonumber(expires) > now and redis.call('HEXISTS', entries, key) == 1
end

local function version_of(key, now)
  if not is_live(key, now) then
    return 0
  end
  return tonumber(string.match(redis.call('HGET', entries, key) or '', '^(%d+):')) or 0
end

local function remove(key)
  redis.call('HDEL', entries, key)
  redis.call('ZREM', expiries, key)
end

local function begin_version(now)
  local version = math.max(tonumber(redis.call('HGET', meta, 'v') or 0) + 1, now)
  redis.call('HSET', meta, 'v', text(version))
  return version
end

-- Let the map live a day longer than its longest entry.
local function live_on(now)
  local longest = redis.call('ZREVRANGE', expiries, 0, 0, 'WITHSCORES')[2]
  local expires = tonumber(longest or now)
  for _, key in ipairs(KEYS) do
    if expires == math.huge then
      redis.call('PERSIST', key)
    else
      redis.call('PEXPIRE', key, text(math.max(expires - now, 0) / 1000 + REMEMBERED))
    end
  end
end
