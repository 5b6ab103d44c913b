-- Begin a new life of a topic's log, unless somebody else did. ARGV: epoch and last offset that were
-- seen, a new epoch. Answers {1, epoch, last, floor}, or {0} for a topic without head.
local head = load_head()
if not head then
  return {0}
end
if head.epoch == ARGV[1] then
  head.epoch = ARGV[3]
  head.last = math.max(head.last, tonumber(ARGV[2]))
  head.floor, head.floor_created = head.last, head.updated
  head.oldest, head.touched = 0, 0
  redis.call('DEL', stream, known)
  save_head(head)
end
return {1, head.epoch, head.last, head.floor}
