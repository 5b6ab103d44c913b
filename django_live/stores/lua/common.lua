-- Times are whole microseconds since 1970: below 2^53, so Lua's numbers hold them exactly. Lua's own
-- way of writing them would not.

local function text(number)
  return string.format('%.0f', number)
end

-- Redis's own clock, so that the hosts' need not agree. Tests give theirs.
local function clock(given)
  if given ~= '' then
    return tonumber(given)
  end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end
