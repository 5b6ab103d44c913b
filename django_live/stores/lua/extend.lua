-- Keep a lease. ARGV: now or '', token, time to live in µs. Answers 1, or 0 where it is lost.
local now, ttl = clock(ARGV[1]), tonumber(ARGV[3])
local lease = load_lease()
if lease.token ~= tonumber(ARGV[2]) or not is_held_at(lease, now) then
  return 0
end
redis.call('HSET', KEYS[1], 'x', text(now + ttl))
redis.call('PEXPIRE', KEYS[1], text(ttl / 1000 + REMEMBERED))
return 1
