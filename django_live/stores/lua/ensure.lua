-- Give a topic a head if it has none, and let it live on. ARGV: a new epoch, now or '', time to live
-- in ms, namespace, name.
local now = text(clock(ARGV[2]))
if redis.call('HSETNX', head_key, 'e', ARGV[1]) == 1 then
  -- What an earlier life left behind is not of this one.
  redis.call('DEL', stream, known)
  redis.call('HSET', head_key, 'l', 0, 'f', 0, 'u', 0, 'c', 0, 'o', 0, 't', 0,
    's', ARGV[4], 'n', ARGV[5])
end
redis.call('HSET', head_key, 'r', now)
redis.call('PEXPIRE', head_key, ARGV[3])
return redis.call('HMGET', head_key, 'e', 'l', 'f')
