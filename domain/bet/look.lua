-- Keys: player. Arguments: one, unused.
local function decide(K, A)
  local player = redis.call('HMGET', KEYS[K + 1], 'free', 'locked', 'ver', 'at')
  if not player[1] then return absent() end
  local bets, all = {}, redis.call('HGETALL', KEYS[K + 1])
  for place = 1, #all, 2 do
    if all[place]:sub(1, 2) == 'b:' then
      bets[#bets + 1] = all[place]:sub(3) .. '=' .. string.match(all[place + 1], '^%d+')
    end
  end
  return 'W ' .. player[1] .. ' ' .. player[2] .. ' ' .. player[3] .. ' ' .. player[4] .. ' ' .. table.concat(bets, ',')
end
