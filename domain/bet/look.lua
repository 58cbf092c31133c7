-- Keys: player, open bets. Arguments: one, unused.
local function decide(K, A)
  local player = redis.call('HMGET', KEYS[K + 1], 'free', 'locked', 'ver', 'at')
  if not player[1] then return absent() end
  local bets, all = {}, redis.call('HGETALL', KEYS[K + 2])
  for place = 1, #all, 2 do
    bets[#bets + 1] = all[place] .. '=' .. string.match(all[place + 1], '^%d+')
  end
  return 'W ' .. player[1] .. ' ' .. player[2] .. ' ' .. player[3] .. ' ' .. player[4] .. ' ' .. table.concat(bets, ',')
end
