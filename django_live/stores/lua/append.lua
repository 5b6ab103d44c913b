-- Number events and keep them. ARGV: now or '', epoch and offset of the newest event that the caller
-- knows of, most events, greatest age in µs, times to live of events and head in ms, '1' if it is
-- asked again because the answer to the first time was lost; then type, data, excluded connection and
-- mark of each.
-- Answers {1, epoch, last, created, then for each draft its offset, or header and data of the first one},
-- {0} for a topic without head, {-1} when the log ends before what the caller knows of.
local STEP = 1000
local head = load_head()
if not head then
  return {0}
end
if head.epoch == ARGV[2] and head.last < tonumber(ARGV[3]) then
  return {-1}
end
local now = clock(ARGV[1])
local most, age = tonumber(ARGV[4]), tonumber(ARGV[5])
local before = head.last
local created = math.max(now, head.updated)

local recent = {}
if ARGV[8] == '1' then
  local newest = STEP + (#ARGV - 8) / 4
  for _, entry in ipairs(redis.call('XREVRANGE', stream, '+', '-', 'COUNT', newest)) do
    recent[entry[2][8]] = entry
  end
end

local function event_with(mark)
  if string.sub(mark, 1, 1) == '~' then
    return recent[mark]
  end
  local offset = redis.call('HGET', known, mark)
  return offset and redis.call('XRANGE', stream, offset, offset)[1]
end

local answer = {1, head.epoch, 0, text(created)}
for i = 9, #ARGV, 4 do
  local mark = ARGV[i + 3]
  local entry = event_with(mark)
  if entry then
    answer[#answer + 1] = {header(entry), entry[2][4]}
  else
    head.last = head.last + 1
    redis.call('XADD', stream, text(head.last) .. '-' .. text(created),
      't', ARGV[i], 'd', ARGV[i + 1], 'x', ARGV[i + 2], 'k', mark)
    if string.sub(mark, 1, 1) ~= '~' then
      redis.call('HSET', known, mark, text(head.last))
    end
    answer[#answer + 1] = head.last
  end
end
answer[3] = head.last
if head.last == before then
  return answer
end

if head.floor == before then
  head.oldest = created
end
head.updated = created

-- Trim in steps, so that an append that finds much to trim holds up nobody, and not with every event.
local upto = head.floor
if head.last - head.floor - most > math.min(100, math.floor(most / 10)) then
  upto = head.last - most
end
if head.oldest < now - age - age / 8 then
  upto = math.max(upto, covered(head, now - age - 1))
end
upto = math.min(upto, head.floor + STEP + 2 * (head.last - before))
if upto > head.floor then
  drop(head, upto)
end

-- The stream goes when its newest event is too old, so topics that fell silent cost nothing.
if now - head.touched > age / 8 or now < head.touched then
  head.touched = now
  redis.call('PEXPIRE', stream, ARGV[6])
  redis.call('PEXPIRE', head_key, ARGV[7])
  redis.call('HSET', head_key, 'r', text(now))
end
if redis.call('EXISTS', known) == 1 then
  redis.call('PEXPIRE', known, ARGV[6])
end
save_head(head)
return answer
