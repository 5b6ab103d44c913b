-- Add to a counter: n its value, x when it begins again. ARGV: now or '', amount, time to live in µs.
-- Answers {value, microseconds left}.
local now, ttl = clock(ARGV[1]), tonumber(ARGV[3])
local expires = tonumber(redis.call('HGET', KEYS[1], 'x') or 0)
if expires <= now then
  expires = now + ttl
  redis.call('HSET', KEYS[1], 'n', 0, 'x', text(expires))
  redis.call('PEXPIRE', KEYS[1], text(ttl / 1000 + 1000))
end
return {redis.call('HINCRBY', KEYS[1], 'n', ARGV[2]), expires - now}
