-- Put a packet into Redis as it is in PostgreSQL. K: the packet, its shares. A: the ticket, the end in ms, the group or
-- '', '1' if there is a list, then lists: shares 'place units,...', winners 'user place units ms,...', allowed 'user,...'.
-- The ticket says in which generation and when somebody missed the packet; PostgreSQL was read after that. Where it is
-- of another generation, or old, others may have loaded the packet meanwhile, decided in it, and it may be over and
-- forgotten: then nothing is loaded. What is over stays for longer than a ticket is good for.
local TICKET_MS = 10000
local function fill(command, key, list, each)
  local part = {}
  for one in string.gmatch(list, '[^,]+') do
    each(part, one)
    if #part >= 1000 then redis.call(command, key, unpack(part)); part = {} end
  end
  if #part > 0 then redis.call(command, key, unpack(part)) end
end
local function decide(K, A)
  local packet, shares = KEYS[K + 1], KEYS[K + 2]
  if redis.call('EXISTS', packet) == 1 then return 'P' end
  local generation, missed = string.match(ARGV[A + 1], '^(%d+)%.(%d+)$')
  local age = now_ms - tonumber(missed)
  if generation ~= string.match(KEYS[1], '}:(%d+):') or age < 0 or age > TICKET_MS then return 'O' end
  redis.call('DEL', shares)
  fill('RPUSH', shares, ARGV[A + 5], function(part, one) part[#part + 1] = one end)
  fill('HSET', packet, ARGV[A + 6], function(part, one)
    part[#part + 1], part[#part + 2] = string.match(one, '^(%S+) (.*)$')
  end)
  fill('HSET', packet, ARGV[A + 7], function(part, one) part[#part + 1] = '~' .. one; part[#part + 1] = '' end)
  if ARGV[A + 3] ~= '' then redis.call('HSET', packet, '=rules', '1', '=group', ARGV[A + 3]) end
  if ARGV[A + 4] ~= '' then redis.call('HSET', packet, '=rules', '1', '=listed', '1') end
  redis.call('HSET', packet, '=ends', ARGV[A + 2], '=left', string.format('%d', redis.call('LLEN', shares)))
  return 'L'
end
