#!lua name=tidings
-- What tidings does inside Redis, each in one atomic step. KEYS[1] is always a channel's name as PUBLISH takes it,
-- the deployment's prefix included. All keys of a channel share its hash slot in a cluster.
--
--   tidings:meta:TAG      hash: e epoch, o offset of the newest publication
--   tidings:stream:TAG    stream: entry `offset-0`, b body, x extras (see envelope.rs) if there are some
--   tidings:once:TAG:KEY  string: the result of the publication made under this idempotency key
--   tidings:present:TAG   hash: client -> info
--   tidings:until:TAG     sorted set: client, by the millisecond at which it is present no longer
--
-- A publication with a position or extras goes to the Pub/Sub channel `NAME tidings`, in an envelope. No channel of
-- tidings has a space in its name, so a plain PUBLISH to a channel never arrives there.

-- A name with a hash tag of its own keeps it; any other becomes one.
local function tagged(name)
  local open = string.find(name, '{', 1, true)
  local close = open and string.find(name, '}', open + 1, true)
  if close and close > open + 1 then return ':' .. name end
  return '{' .. name .. '}'
end

-- A whole number, as the text it came as: commands take it so, and converting costs time.
local function whole(text, default, what)
  if not text or text == '' then return default end
  if #text > 15 or not string.find(text, '^%d+$') then
    error({err = 'ERR tidings: ' .. what .. ' must be a whole number, not negative'})
  end
  return text
end

local function digits(value) return string.format('%.0f', value) end

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Times differ from one call to the next, or the server's clock was set back, which takes its data with it.
local function new_epoch()
  local time = redis.call('TIME')
  return string.format('%x%05x', time[1], time[2])
end

local function only_channel(keys)
  if #keys ~= 1 or keys[1] == '' then error({err = 'ERR tidings: one key is expected, the channel'}) end
  return keys[1], tagged(keys[1])
end

-- Begins the history of a channel; what an earlier one has left is in nobody's epoch.
local function begin(tag)
  local epoch = new_epoch()
  redis.call('DEL', 'tidings:stream:' .. tag)
  redis.call('HSET', 'tidings:meta:' .. tag, 'e', epoch, 'o', 0)
  return epoch
end

-- body [size [ttl ms [meta ttl ms [idempotency key [extras]]]]]
-- -> receivers, offset, epoch, 1 if it was published before under this key; offset 0 without a history (size 0)
local function publish(keys, args)
  local name, tag = only_channel(keys)
  local body = args[1]
  if not body then error({err = 'ERR tidings: a body is expected'}) end
  local size = whole(args[2], '100', 'size')
  local ttl, meta_ttl = whole(args[3], '300000', 'ttl'), whole(args[4], '604800000', 'meta ttl')
  local kept = tonumber(size) > 0
  local key, extras = args[5] or '', args[6] or ''
  local once = key ~= '' and 'tidings:once:' .. tag .. ':' .. key
  if once then
    local first = redis.call('GET', once)
    if first then
      local receivers, offset, epoch = string.match(first, '^(%d+) (%d+) (%w*)$')
      return {tonumber(receivers), offset, epoch, 1}
    end
  end
  local offset, epoch, receivers = '0', '', nil
  if kept then
    local meta, stream = 'tidings:meta:' .. tag, 'tidings:stream:' .. tag
    epoch = redis.call('HGET', meta, 'e') or begin(tag)
    offset = digits(redis.call('HINCRBY', meta, 'o', 1))
    if extras == '' then
      redis.call('XADD', stream, 'MAXLEN', size, offset, 'b', body)
    else
      redis.call('XADD', stream, 'MAXLEN', size, offset, 'b', body, 'x', extras)
    end
    redis.call('PEXPIRE', stream, ttl)
    redis.call('PEXPIRE', meta, meta_ttl)
  end
  if kept or extras ~= '' then
    local head = 'P' .. offset .. ' ' .. epoch .. ' ' .. #extras .. '\n'
    receivers = redis.call('PUBLISH', name .. ' tidings', head .. extras .. body)
  else
    receivers = redis.call('PUBLISH', name, body)
  end
  if once then
    redis.call('SET', once, receivers .. ' ' .. offset .. ' ' .. epoch, 'PX', 300000)
  end
  return {receivers, offset, epoch, 0}
end

-- meta ttl ms, lowest offset | '', highest offset | '', count | '' for all, '' | 'reverse'
-- -> epoch, offset, entries (as XRANGE gives them); begins a history where there is none
local function history(keys, args)
  local _, tag = only_channel(keys)
  local meta = 'tidings:meta:' .. tag
  local state = redis.call('HMGET', meta, 'e', 'o')
  local epoch, offset = state[1], state[2]
  if not epoch then
    epoch, offset = begin(tag), '0'
    redis.call('PEXPIRE', meta, whole(args[1], '604800000', 'meta ttl'))
  end
  local lowest, highest, count = args[2] or '', args[3] or '', args[4] or ''
  if lowest == '' then lowest = '-' end
  if highest == '' then highest = '+' end
  if count == '0' or (lowest ~= '-' and tonumber(lowest) > tonumber(offset)) then return {epoch, offset, {}} end
  local stream, range = 'tidings:stream:' .. tag, nil
  if args[5] == 'reverse' then
    range = {'XREVRANGE', stream, highest, lowest}
  else
    range = {'XRANGE', stream, lowest, highest}
  end
  if count ~= '' then
    range[5], range[6] = 'COUNT', whole(count, '0', 'count')
  end
  return {epoch, offset, redis.call(unpack(range))}
end

-- [offset, epoch: what a node has heard last] -> epoch, offset; '' and 0 where there is no history
-- A history that a node has heard of but that is gone, or that has not come as far as the node has heard (it was
-- restored from older data, and would give the same offsets out again), begins anew.
local function position(keys, args)
  local _, tag = only_channel(keys)
  local meta = 'tidings:meta:' .. tag
  local state = redis.call('HMGET', meta, 'e', 'o')
  local epoch, offset = state[1], state[2]
  local heard, heard_epoch = args[1], args[2]
  if not heard then return {epoch or '', offset or '0'} end
  if not epoch or (heard_epoch == epoch and tonumber(offset) < tonumber(heard)) then
    local left = redis.call('PTTL', meta)
    epoch, offset = begin(tag), '0'
    redis.call('PEXPIRE', meta, left > 0 and left or 604800000)
  end
  return {epoch, offset}
end

local function history_remove(keys)
  local _, tag = only_channel(keys)
  return redis.call('DEL', 'tidings:stream:' .. tag)
end

-- Lets go of the members whose time is over; every node calls often enough that there are never many.
local function expire(tag, time)
  local until_key, present = 'tidings:until:' .. tag, 'tidings:present:' .. tag
  while true do
    local gone = redis.call('ZRANGEBYSCORE', until_key, '-inf', digits(time), 'LIMIT', 0, 1000)
    if #gone == 0 then return end
    redis.call('ZREM', until_key, unpack(gone))
    redis.call('HDEL', present, unpack(gone))
  end
end

-- client, info, ttl ms
local function presence_add(keys, args)
  local _, tag = only_channel(keys)
  local client, info = args[1], args[2]
  local time, ttl = now(), tonumber(whole(args[3], '60000', 'ttl'))
  expire(tag, time)
  local until_key, present = 'tidings:until:' .. tag, 'tidings:present:' .. tag
  redis.call('ZADD', until_key, digits(time + ttl), client)
  redis.call('HSET', present, client, info)
  -- Both live as long as the member that stays longest.
  if redis.call('PTTL', present) < ttl then
    redis.call('PEXPIRE', until_key, digits(ttl))
    redis.call('PEXPIRE', present, digits(ttl))
  end
  return redis.status_reply('OK')
end

-- client
local function presence_remove(keys, args)
  local _, tag = only_channel(keys)
  redis.call('ZREM', 'tidings:until:' .. tag, args[1])
  redis.call('HDEL', 'tidings:present:' .. tag, args[1])
  return redis.status_reply('OK')
end

-- -> infos
local function presence(keys)
  local _, tag = only_channel(keys)
  expire(tag, now())
  return redis.call('HVALS', 'tidings:present:' .. tag)
end

-- -> clients, users; an info begins with its user, as a netstring
local function presence_stats(keys)
  local users, count = {}, 0
  local infos = presence(keys)
  for _, info in ipairs(infos) do
    local length, from = string.match(info, '^(%d+):()')
    local user = length and string.sub(info, from, from + length - 1) or ''
    if not users[user] then
      users[user], count = true, count + 1
    end
  end
  return {#infos, count}
end

redis.register_function('tidings_publish', publish)
redis.register_function('tidings_history', history)
redis.register_function('tidings_position', position)
redis.register_function('tidings_history_remove', history_remove)
redis.register_function('tidings_presence_add', presence_add)
redis.register_function('tidings_presence_remove', presence_remove)
redis.register_function('tidings_presence', presence)
redis.register_function('tidings_presence_stats', presence_stats)
