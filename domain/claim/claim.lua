-- One claim. K: the packet, its shares. A: the packet's id, the claimant, the claimant's group or ''.
-- The packet is a hash: '=left' shares, '=ends' ms, '=over' once it is closed, '=rules' if not everybody may claim, with
-- '=group' and '=listed'; '~bob' if bob is on the list; and bob -> 'place units ms' for each who won. A user's name begins
-- with a letter or a digit, so none is taken for one of ours. The shares are a list of 'place units', the next one first.
-- Units are text: Lua's numbers are exact to 53 bits only.
local stamp = string.format('%d', now_ms)
local function decide(K, A)
  local packet, user = KEYS[K + 1], ARGV[A + 2]
  local found = redis.call('HMGET', packet, user, '=left', '=over', '=ends', '=rules')
  if found[1] then return 'A ' .. found[1] end
  if not found[2] then return '? ' .. string.match(KEYS[1], '}:(%d+):') .. '.' .. stamp end
  if found[3] then return found[3] end
  local left = tonumber(found[2])
  if left == 0 then return 'E' end
  if now_ms >= tonumber(found[4]) then return 'X' end
  if found[5] then
    local rules = redis.call('HMGET', packet, '=group', '=listed', '~' .. user)
    if rules[1] and rules[1] ~= ARGV[A + 3] or rules[2] and not rules[3] then return 'N' end
  end
  local share = redis.call('LPOP', KEYS[K + 2])
  if not share then error('the shares of ' .. ARGV[A + 1] .. ' are gone') end
  local won = share .. ' ' .. stamp
  redis.call('HSET', packet, user, won, '=left', string.format('%d', left - 1))
  return 'W ' .. won, 'claim.won ' .. ARGV[A + 1] .. ' ' .. user .. ' ' .. won
end
