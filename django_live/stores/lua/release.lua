-- Give a lease back. ARGV: now or '', token. Answers 1, or 0 where it was lost before.
local lease = load_lease()
if lease.token ~= tonumber(ARGV[2]) or not is_held_at(lease, clock(ARGV[1])) then
  return 0
end
redis.call('HSET', KEYS[1], 'h', '')
return 1
