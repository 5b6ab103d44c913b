-- Remove what a history no longer keeps. ARGV: now or '', most events, greatest age in µs, most to
-- remove. Answers how many went.
local head = load_head()
if not head then
  redis.call('DEL', stream, known)
  return 0
end
local upto = math.max(head.last - tonumber(ARGV[2]),
  covered(head, clock(ARGV[1]) - tonumber(ARGV[3]) - 1))
upto = math.min(upto, head.floor + tonumber(ARGV[4]))
local removed = upto - head.floor
if removed <= 0 then
  return 0
end
drop(head, upto)
save_head(head)
return removed
