-- Let a packet that is over go after a while. K: the packet, its shares. A: after how many seconds.
local function decide(K, A)
  redis.call('EXPIRE', KEYS[K + 1], ARGV[A + 1])
  redis.call('EXPIRE', KEYS[K + 2], ARGV[A + 1])
  return 'D'
end
