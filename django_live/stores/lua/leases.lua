-- What every script of a lease begins with. One hash: h its holder, empty when it was given back, t the
-- token, x when it expires.

-- How long in ms the token is remembered; after that, the clock alone makes the next one greater.
local REMEMBERED = 86400000

local function load_lease()
  local found = redis.call('HMGET', KEYS[1], 'h', 't', 'x')
  return {
    holder = found[1] or '',
    token = tonumber(found[2] or 0),
    expires = tonumber(found[3] or 0),
  }
end

local function is_held_at(lease, now)
  return lease.holder ~= '' and lease.expires > now
end
