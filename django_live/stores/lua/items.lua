-- What a map holds. ARGV: now or '', '1' for all of it; then the keys. Answers {version, then of each
-- entry its key and "<version>:<value>"}.
local now = clock(ARGV[1])
local keys = {}
if ARGV[2] == '1' then
  keys = redis.call('ZRANGEBYSCORE', expiries, '(' .. text(now), '+inf')
else
  for i = 3, #ARGV do
    if is_live(ARGV[i], now) then
      keys[#keys + 1] = ARGV[i]
    end
  end
end
local answer = {tonumber(redis.call('HGET', meta, 'v') or 0)}
for first = 1, #keys, AT_ONCE do
  local last = math.min(first + AT_ONCE - 1, #keys)
  for place, value in ipairs(redis.call('HMGET', entries, unpack(keys, first, last))) do
    if value then
      answer[#answer + 1], answer[#answer + 2] = keys[first + place - 1], value
    end
  end
end
return answer
