-- Close a packet. K: the packet, its shares. A: the packet's id, 'expired' or 'cancelled'.
-- What goes back is for the books to say: all that no claim took, in exact numbers.
local stamp = string.format('%d', now_ms)
local function decide(K, A)
  local packet, why = KEYS[K + 1], ARGV[A + 2]
  local found = redis.call('HMGET', packet, '=left', '=over', '=ends')
  if not found[1] then return '? ' .. string.match(KEYS[1], '}:(%d+):') .. '.' .. stamp end
  if found[2] or found[1] == '0' then return 'D' end
  if why == 'expired' and now_ms < tonumber(found[3]) then return 'T' end
  redis.call('HSET', packet, '=over', why == 'expired' and 'X' or 'C')
  redis.call('DEL', KEYS[K + 2])
  return 'D', 'claim.closed ' .. ARGV[A + 1] .. ' ' .. found[1] .. ' ' .. why .. ' ' .. stamp
end
