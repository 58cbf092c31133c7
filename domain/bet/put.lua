-- What the books say of a player, if he isn't here. Keys: player, three buckets of ended bets.
-- Arguments: token, free, locked, version, ms of the last decision, ids before this ms are not all among the ended,
-- open bets, ended bets of each of the three buckets with the ms of the last id (lines of "<id> <value>").
local function decide(K, A)
  if redis.call('EXISTS', KEYS[K + 1]) == 1 then return 'P' end
  local generation, read = string.match(ARGV[A + 1], '^(%d+):(%d+)$')
  -- Nothing that was decided on is forgotten sooner than in a minute: what was read within the last ten seconds while
  -- the player was absent is still so.
  if generation ~= GENERATION or now_ms - read > 10000 then return absent() end
  redis.call('HSET', KEYS[K + 1], 'free', ARGV[A + 2], 'locked', ARGV[A + 3], 'ver', ARGV[A + 4], 'at', ARGV[A + 5],
    'born', read, 'since', ARGV[A + 6], 'put', NOW)
  for id, value in string.gmatch(ARGV[A + 7], '(%S+) ([^\n]+)') do
    redis.call('HSET', KEYS[K + 1], 'b:' .. id, value)
  end
  for bucket = 1, 3 do
    local key = KEYS[K + 1 + bucket]
    local last = 0
    for id, value in string.gmatch(ARGV[A + 7 + bucket], '(%S+) ([^\n]+)') do
      redis.call('HSET', key, id, value)
      last = tonumber(string.sub(id, 1, 8) .. string.sub(id, 10, 13), 16)
    end
    if last > 0 then keep(key, last) end
  end
  -- Only what holds nothing and was never decided on goes by itself. A move makes it stay.
  if ARGV[A + 2] == '0' and ARGV[A + 3] == '0' then redis.call('PEXPIRE', KEYS[K + 1], 10000) end
  return 'P'
end
