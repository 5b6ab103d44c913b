-- Remove entries that have expired. ARGV: now or '', how many at most. Answers {version, the keys}.
local now = clock(ARGV[1])
local expired = redis.call('ZRANGEBYSCORE', expiries, '-inf', text(now), 'LIMIT', 0, ARGV[2])
local answer = {tonumber(redis.call('HGET', meta, 'v') or 0)}
if #expired > 0 then
  answer[1] = begin_version(now)
  for _, key in ipairs(expired) do
    remove(key)
    answer[#answer + 1] = key
  end
  live_on(now)
end
return answer
