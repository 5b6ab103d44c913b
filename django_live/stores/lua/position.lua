-- The position that covers what was numbered at a time or before. ARGV: the time. Answers {1, epoch,
-- offset}, or {0} for a topic without head.
local head = load_head()
if not head then
  return {0}
end
local at = tonumber(ARGV[1])
local offset = covered(head, at)
if offset == head.floor and head.floor_created > at then
  -- Even the newest trimmed event is too new: from 0 a reader is told that events are missing.
  offset = 0
end
return {1, head.epoch, offset}
