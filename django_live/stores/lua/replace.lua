-- Put other data in the place of that of some events. The fourth key is a stream to build. ARGV: offset
-- and data of each. Answers how many were still kept.
--
-- An entry of a stream cannot be changed: the stream is made anew beside the old one and takes its
-- place, with the same ids, while nobody can look.
local AT_ONCE = 500
local fresh = KEYS[4]
local data, found = {}, 0
for i = 1, #ARGV, 2 do
  data[ARGV[i]] = ARGV[i + 1]
end
if redis.call('EXISTS', stream) == 0 then
  return 0
end
local expires = redis.call('PTTL', stream)

redis.call('DEL', fresh)
local start = '-'
while true do
  local some = redis.call('XRANGE', stream, start, '+', 'COUNT', AT_ONCE)
  for _, entry in ipairs(some) do
    local fields = entry[2]
    local other = data[text(offset_of(entry[1]))]
    if other then
      found = found + 1
    end
    redis.call('XADD', fresh, entry[1],
      't', fields[2], 'd', other or fields[4], 'x', fields[6], 'k', fields[8])
  end
  if #some < AT_ONCE then
    break
  end
  start = text(offset_of(some[#some][1]) + 1)
end
redis.call('RENAME', fresh, stream)
if expires > 0 then
  redis.call('PEXPIRE', stream, expires)
end
return found
