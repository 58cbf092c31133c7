-- Keys: player, ended bets of the id's bucket.
-- Arguments: player, bet, the id's ms, S (settle) or V (void), payout (of a void: ignored, the stake goes back).
local function decide(K, A)
  local id, verb, units = ARGV[A + 2], ARGV[A + 4], ARGV[A + 5]
  local field = 'b:' .. id
  local player = redis.call('HMGET', KEYS[K + 1], 'free', 'locked', 'ver', field)
  if not player[1] then return absent() end
  local open = player[4]
  if not open then
    local ended = redis.call('HGET', KEYS[K + 2], id)
    if not ended then return 'U' end
    local did, paid, rest = string.match(ended, ' ([SV]) (%d+) (%d+ %d+)$')
    if did ~= verb or (verb == 'S' and paid ~= units) then return did == 'S' and 'C settled' or 'C voided' end
    return verb .. ' ' .. paid .. ' ' .. rest
  end
  local stake = string.match(open, '^%d+')
  if less(player[2], stake) then error('less is locked than the bet ' .. id .. ' has staked') end
  if verb == 'V' then units = stake end
  local free, locked = add(player[1], units), sub(player[2], stake)
  if #free > DIGITS then return 'X ' .. player[1] end
  local ver = string.format('%d', player[3] + 1)
  redis.call('HSET', KEYS[K + 1], 'free', free, 'locked', locked, 'ver', ver, 'at', NOW)
  redis.call('HDEL', KEYS[K + 1], field)
  local answer = verb .. ' ' .. units .. ' ' .. free .. ' ' .. NOW
  redis.call('HSET', KEYS[K + 2], id, open .. ' ' .. answer)
  keep(KEYS[K + 2], tonumber(ARGV[A + 3]))
  return answer, (verb == 'S' and 'bet.settled ' or 'bet.voided ') .. ARGV[A + 1] .. ' ' .. id .. ' ' .. ver .. ' '
    .. free .. ' ' .. locked .. ' ' .. NOW .. ' ' .. units
end
