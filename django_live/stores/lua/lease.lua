-- Who has a lease. ARGV: now or ''. Answers {holder, token, microseconds left}, or {}.
local now = clock(ARGV[1])
local lease = load_lease()
if not is_held_at(lease, now) then
  return {}
end
return {lease.holder, lease.token, lease.expires - now}
