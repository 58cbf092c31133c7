-- Money into the player's hands (L) and back to the books (B). Keys: player.
-- Arguments: player, id of the move, L or B, units (B: or "all"), idle ms (B: only if idle for so long and nothing is
-- staked; 0: whenever), token.
--
-- A move is decided once for ever. Its id stands in the player's hash, which may go once its events are in the books;
-- so whoever asks says by the token when he last saw in the books that it is still to be done, and that must have been
-- after the hash was made, in this generation.
local function decide(K, A)
  local field, verb, units = 'm:' .. ARGV[A + 2], ARGV[A + 3], ARGV[A + 4]
  local player = redis.call('HMGET', KEYS[K + 1], 'free', 'locked', 'ver', 'at', 'born', field)
  local free, locked = player[1], player[2]
  if not free then return absent() end
  if player[6] then return 'M ' .. player[6] end
  local generation, seen = string.match(ARGV[A + 6], '^(%d+):(%d+)$')
  if generation ~= GENERATION or tonumber(seen) < tonumber(player[5]) then return absent() end
  if verb == 'L' then
    free = add(free, units)
    if #free > DIGITS then return 'X ' .. player[1] end
  else
    local idle = tonumber(ARGV[A + 5])
    if idle > 0 and (now_ms - player[4] < idle or locked ~= '0') then return 'A' end
    if units == 'all' then units = free end
    if units == '0' or less(free, units) then return 'L ' .. free end
    free = sub(free, units)
  end
  local ver = string.format('%d', player[3] + 1)
  local answer = units .. ' ' .. free .. ' ' .. NOW
  redis.call('HSET', KEYS[K + 1], 'free', free, 'ver', ver, 'at', NOW, field, answer)
  redis.call('PERSIST', KEYS[K + 1])
  return 'M ' .. answer, (verb == 'L' and 'bet.loaded ' or 'bet.unloaded ') .. ARGV[A + 1] .. ' ' .. ARGV[A + 2] .. ' '
    .. ver .. ' ' .. free .. ' ' .. locked .. ' ' .. NOW .. ' ' .. units
end
