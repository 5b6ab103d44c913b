-- A page of events. ARGV: the offset before the first, most events, most bytes of data.
-- Answers {1, epoch, last, floor, then of each event its header and data}, or {0}
-- for a topic without head.
local FIRST, MOST_AT_ONCE = 16, 1000
local head = load_head()
if not head then
  return {0}
end
local answer = {1, head.epoch, head.last, head.floor}
local left, most_bytes = tonumber(ARGV[2]), tonumber(ARGV[3])
local wanted = math.max(tonumber(ARGV[1]), head.floor) + 1
local size, count, ask = 0, 0, FIRST

while left > 0 and wanted <= head.last do
  ask = math.min(ask, left, MOST_AT_ONCE)
  local some = redis.call('XRANGE', stream, text(wanted), '+', 'COUNT', ask)
  if count == 0 and #some == 0 then
    answer[4] = head.last
  end
  for _, entry in ipairs(some) do
    local offset, data = offset_of(entry[1]), entry[2][4]
    size = size + #data
    if count > 0 and (size > most_bytes or offset ~= wanted) then
      return answer
    end
    if offset ~= wanted then
      answer[4] = offset - 1 -- somebody deleted events by hand
    end
    local place = #answer
    answer[place + 1], answer[place + 2] = header(entry), data
    count, wanted = count + 1, offset + 1
  end
  left = left - #some
  if #some < ask or size >= most_bytes then
    break
  end
  ask = 1 + math.floor((most_bytes - size) * count / math.max(size, 1))
end
return answer
