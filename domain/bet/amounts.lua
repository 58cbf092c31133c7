-- Amounts are decimal strings of up to 38 digits, as in the books: a number of Lua is exact below 2^53 only.
local function limbs(a)
  a = string.rep('0', 39 - #a) .. a
  return tonumber(a:sub(1, 13)), tonumber(a:sub(14, 26)), tonumber(a:sub(27))
end
local function joined(high, middle, low)
  return (string.gsub(string.format('%.0f%013.0f%013.0f', high, middle, low), '^0+(%d)', '%1'))
end
local function less(a, b)
  if #a ~= #b then return #a < #b end
  if #a < 16 then return tonumber(a) < tonumber(b) end
  local h, m, l = limbs(a)
  local i, n, o = limbs(b)
  if h ~= i then return h < i end
  if m ~= n then return m < n end
  return l < o
end
local function add(a, b)
  if #a < 16 and #b < 16 then return string.format('%.0f', a + b) end
  local h, m, l = limbs(a)
  local i, n, o = limbs(b)
  h, m, l = h + i, m + n, l + o
  if l >= 1e13 then l, m = l - 1e13, m + 1 end
  if m >= 1e13 then m, h = m - 1e13, h + 1 end
  return joined(h, m, l)
end
local function sub(a, b) -- of which b is not the greater
  if #a < 16 then return string.format('%.0f', a - b) end
  local h, m, l = limbs(a)
  local i, n, o = limbs(b)
  h, m, l = h - i, m - n, l - o
  if l < 0 then l, m = l + 1e13, m - 1 end
  if m < 0 then m, h = m + 1e13, h - 1 end
  return joined(h, m, l)
end
local DIGITS = 38

-- "? <generation>:<ms>" says that the player isn't here, and when that was so by this server's clock.
local GENERATION = string.match(KEYS[1], '}:(%d+):')
local NOW = string.format('%d', now_ms)
local function absent() return '? ' .. GENERATION .. ':' .. NOW end

-- An id is decided for the first time while its own time is no older than AGE. What became of it is kept for longer.
local AGE, AHEAD, BUCKET = 300000, 60000, 300000
local function keep(key, id_ms)
  local ends = math.max((math.floor(id_ms / BUCKET) + 1) * BUCKET, now_ms) + AGE + 60000
  redis.call('PEXPIREAT', key, string.format('%d', ends))
end
