-- Take a lease. ARGV: now or '', holder, time to live in µs. Answers the token, 0 while somebody else
-- has it.
local now, ttl = clock(ARGV[1]), tonumber(ARGV[3])
local lease = load_lease()
local is_held = is_held_at(lease, now)
if is_held and lease.holder ~= ARGV[2] then
  return 0
end
if not is_held then
  lease.token = math.max(lease.token + 1, now)
end
redis.call('HSET', KEYS[1], 'h', ARGV[2], 't', text(lease.token), 'x', text(now + ttl))
redis.call('PEXPIRE', KEYS[1], text(ttl / 1000 + REMEMBERED))
return lease.token
