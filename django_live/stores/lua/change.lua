-- Change a map. ARGV: now or '', time to live in µs or '', fence, most entries, how many are expected,
-- set and deleted; then key and version of each expected, key and value of each set, the keys to delete.
-- Answers {1, version, {added}, {removed}}; {0} where something is not as expected; {-1}: full.
local now = clock(ARGV[1])
local ttl, fence, most = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local first_set = 8 + 2 * tonumber(ARGV[5])
local first_delete = first_set + 2 * tonumber(ARGV[6])

local highest = tonumber(redis.call('HGET', meta, 'f') or 0)
if fence > 0 and fence < highest then
  return {0}
end
for i = 8, first_set - 1, 2 do
  if version_of(ARGV[i], now) ~= tonumber(ARGV[i + 1]) then
    return {0}
  end
end

local set, added, removed = {}, {}, {}
for i = first_set, first_delete - 1, 2 do
  set[ARGV[i]] = true
  if not is_live(ARGV[i], now) then
    added[#added + 1] = ARGV[i]
  end
end
for i = first_delete, #ARGV do
  if not set[ARGV[i]] and is_live(ARGV[i], now) then
    removed[#removed + 1] = ARGV[i]
  end
end
if #added > 0 then
  local holds = redis.call('ZCOUNT', expiries, '(' .. text(now), '+inf')
  if holds + #added - #removed > most then
    return {-1}
  end
end

if fence > highest then
  redis.call('HSET', meta, 'f', text(fence))
end
local version = tonumber(redis.call('HGET', meta, 'v') or 0)
if next(set) or #removed > 0 then
  version = begin_version(now)
end
for _, key in ipairs(removed) do
  remove(key)
end
for i = first_set, first_delete - 1, 2 do
  redis.call('HSET', entries, ARGV[i], text(version) .. ':' .. ARGV[i + 1])
  redis.call('ZADD', expiries, ttl and text(now + ttl) or '+inf', ARGV[i])
end
-- What nobody swept for a day.
local oldest = text(now - REMEMBERED * 1000)
for _, key in ipairs(redis.call('ZRANGEBYSCORE', expiries, '-inf', oldest, 'LIMIT', 0, 100)) do
  remove(key)
end
live_on(now)
return {1, version, added, removed}
