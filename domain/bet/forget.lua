-- Let go of a player who has nothing here, all of whose decisions are in the books. Keys: player.
-- Arguments: the version that the books have.
local REST = 60000 -- far longer than what `put` takes for fresh
local function decide(K, A)
  local player = redis.call('HMGET', KEYS[K + 1], 'free', 'locked', 'ver', 'at', 'put')
  if not player[1] then return 'F' end
  if player[1] ~= '0' or player[2] ~= '0' or player[3] ~= ARGV[A + 1]
    or now_ms - math.max(tonumber(player[4]), tonumber(player[5])) < REST then
    return 'K'
  end
  redis.call('UNLINK', KEYS[K + 1])
  return 'F'
end
