-- Keys: player, ended bets of the id's bucket, rate of the user.
-- Arguments: player, bet, the id's ms, stake, digest of the facts, the facts (game edge agent), bets a second.
local function decide(K, A)
  local id, stake = ARGV[A + 2], ARGV[A + 4]
  local field = 'b:' .. id
  local player = redis.call('HMGET', KEYS[K + 1], 'free', 'locked', 'ver', 'since', field)
  local free, locked = player[1], player[2]
  if not free then return absent() end
  local first = player[5] or redis.call('HGET', KEYS[K + 2], id)
  if first then
    local was, digest, answer = string.match(first, '^(%d+) (%x+) (%d+ %d+ %d+)')
    if was ~= stake or digest ~= ARGV[A + 5] then return 'C reserved' end
    return 'R ' .. answer
  end
  local id_ms = tonumber(ARGV[A + 3])
  if id_ms < now_ms - AGE or id_ms > now_ms + AHEAD or id_ms < tonumber(player[4]) then return 'O' end
  local tries = redis.call('INCR', KEYS[K + 3])
  if tries == 1 then
    redis.call('PEXPIRE', KEYS[K + 3], 1000)
  elseif tries > tonumber(ARGV[A + 7]) then
    return 'T ' .. math.max(redis.call('PTTL', KEYS[K + 3]), 1)
  end
  if less(free, stake) then return 'L ' .. free end
  free, locked = sub(free, stake), add(locked, stake)
  local ver = string.format('%d', player[3] + 1)
  local answer = free .. ' ' .. locked .. ' ' .. NOW
  redis.call('HSET', KEYS[K + 1], 'free', free, 'locked', locked, 'ver', ver, 'at', NOW,
    field, stake .. ' ' .. ARGV[A + 5] .. ' ' .. answer)
  return 'R ' .. answer,
    'bet.reserved ' .. ARGV[A + 1] .. ' ' .. id .. ' ' .. ver .. ' ' .. answer .. ' ' .. stake .. ' ' .. ARGV[A + 6]
end
