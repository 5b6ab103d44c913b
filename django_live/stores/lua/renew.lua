-- Let entries live on. ARGV: now or '', time to live in µs, the keys. Answers those that are not there.
local now = clock(ARGV[1])
local expires = text(now + tonumber(ARGV[2]))
local missing = {}
for i = 3, #ARGV do
  if is_live(ARGV[i], now) then
    redis.call('ZADD', expiries, expires, ARGV[i])
  else
    missing[#missing + 1] = ARGV[i]
  end
end
if redis.call('EXISTS', meta) == 1 then
  live_on(now)
end
return missing
