#!lua name=tidings
-- What tidings does inside Redis, each in one atomic step. KEYS[1] is always a channel's name as PUBLISH takes it,
-- the deployment's prefix included. All keys of a channel share its hash slot in a cluster.
--
--   tidings:meta:TAG      hash: e epoch, o offset of the newest publication
--   tidings:stream:TAG    stream: entry `offset-0`, b body, x extras (see envelope.rs) if there are some
--   tidings:once:N:TAG:KEY  string: the result of the publication made under this idempotency key; N is the length of
--                         TAG in bytes, so that no two pairs of channel and key share a name
--   tidings:present:TAG   hash: client -> info
--   tidings:until:TAG     sorted set: client, by the millisecond at which it is present no longer
--   tidings:kept:TAG      hash: name -> value, a register
--   tidings:keptuntil:TAG sorted set: name, by the millisecond at which the value ends; those for ever are not in it
--
-- A publication with a position or extras goes to the Pub/Sub channel `NAME tidings`, in an envelope. No channel of
-- tidings has a space in its name, so a plain PUBLISH to a channel never arrives there.
--
-- In a cluster, one with a position goes to the sharded Pub/Sub channel `TAG tidings` instead, and the meta hash says
-- more: n the primary that wrote last, t how often that has changed (the term), f the offset at the last change.

-- Whether this is a cluster; set as the library is loaded.
local SHARDED = false

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

-- While a slot is moved from one node of a cluster to another, some of a channel's keys may be here and some there, or
-- not be at all, which nobody can tell apart. Redis refuses a command with several keys then; so is the whole call, before
-- anything is written. Elsewhere it costs a look.
local function together(...)
  if SHARDED and type(redis.pcall('EXISTS', ...)) == 'table' then
    error({err = 'TRYAGAIN tidings: the hash slot of this channel is being moved'})
  end
end

local function myself() return redis.call('CLUSTER', 'MYID') end

-- Begins the history of a channel; what an earlier one has left is in nobody's epoch.
local function begin(tag)
  local epoch = new_epoch()
  local meta, stream = 'tidings:meta:' .. tag, 'tidings:stream:' .. tag
  together(meta, stream)
  redis.call('DEL', stream)
  redis.call('HSET', meta, 'e', epoch, 'o', 0)
  if SHARDED then redis.call('HSET', meta, 'n', myself(), 't', 1, 'f', 0) end
  return epoch
end

-- A history that another primary wrote last: it was moved here, or that one has failed, and what it had not replicated
-- is lost. From now on this one gives the same offsets out again, in another term.
local function take_over(meta, offset)
  redis.call('HSET', meta, 'n', myself(), 'f', offset)
  return redis.call('HINCRBY', meta, 't', 1)
end

-- Appending, remembering and publishing are one or nothing. Redis undoes nothing when a function fails halfway, so what
-- the user may not do is found out before anything is written. All else that can go wrong (no memory, no replicas, a slot
-- that leaves) Redis checks before the function begins, but for keys of another type: those fail at the first write.
local function permitted(...)
  if not redis.acl_check_cmd(...) then
    error({err = 'NOPERM tidings: the user of Redis may not ' .. (...) .. ' as publishing needs'})
  end
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
  local once = key ~= '' and 'tidings:once:' .. #tag .. ':' .. tag .. ':' .. key
  local meta, stream = 'tidings:meta:' .. tag, 'tidings:stream:' .. tag
  if once then
    together(meta, stream, once)
    local first = redis.call('GET', once)
    if first then
      local receivers, offset, epoch = string.match(first, '^(%d+) (%d+) (%w*)$')
      return {tonumber(receivers), offset, epoch, 1}
    end
  end
  local sharded = SHARDED and kept
  local enveloped = kept or extras ~= ''
  if kept or once then
    permitted(sharded and 'SPUBLISH' or 'PUBLISH', sharded and tag .. ' tidings' or enveloped and name .. ' tidings' or name, '')
    if once then permitted('SET', once, '') end
  end
  local offset, epoch, receivers = '0', '', nil
  if kept then
    if SHARDED then
      local state = redis.call('HMGET', meta, 'e', 'o', 'n')
      epoch = state[1]
      if epoch then together(meta, stream) end
      if epoch and state[3] ~= myself() then take_over(meta, state[2]) end
      epoch = epoch or begin(tag)
      offset = state[1] and state[2] or '0'
    else
      local state = redis.call('HMGET', meta, 'e', 'o')
      epoch, offset = state[1] or begin(tag), state[1] and state[2] or '0'
    end
    offset = digits(offset + 1)
    -- The stream first: should its key be of another type, nothing has changed.
    if extras == '' then
      redis.call('XADD', stream, 'MAXLEN', size, offset, 'b', body)
    else
      redis.call('XADD', stream, 'MAXLEN', size, offset, 'b', body, 'x', extras)
    end
    redis.call('HSET', meta, 'o', offset)
    redis.call('PEXPIRE', stream, ttl)
    redis.call('PEXPIRE', meta, meta_ttl)
  end
  if enveloped then
    local head = 'P' .. offset .. ' ' .. epoch .. ' ' .. #extras .. '\n'
    local envelope = head .. extras .. body
    if sharded then
      receivers = redis.call('SPUBLISH', tag .. ' tidings', envelope)
      -- There are no sharded patterns. Nodes with patterns listen there on every primary, so that the others are spared
      -- the way through the whole cluster. What is appended stays, also where the user may not publish there.
      if redis.call('PUBSUB', 'NUMSUB', 'tidings patterns')[2] > 0 then
        redis.pcall('PUBLISH', name .. ' tidings', envelope)
      end
    else
      receivers = redis.call('PUBLISH', name .. ' tidings', envelope)
    end
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
  together(meta, stream)
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

-- [offset, epoch [, term]: what a node has heard last] -> epoch, offset; '' and 0 where there is no history;
-- in a cluster the term as well
-- A history that a node has heard of but that is gone, or that has not come as far as the node has heard (it was
-- restored from older data, and would give the same offsets out again), begins anew. So does, in a cluster, one of which
-- the node has heard more than this primary had when it took over, also when it has come further since.
-- With `reads_only`, an empty answer where it would have to write.
local function position(keys, args, reads_only)
  local _, tag = only_channel(keys)
  local meta = 'tidings:meta:' .. tag
  local state = redis.call('HMGET', meta, 'e', 'o', 'n', 't', 'f')
  local epoch, offset, term, fork = state[1], state[2], tonumber(state[4] or '0'), tonumber(state[5] or '0')
  if SHARDED and epoch and state[3] ~= myself() then
    if reads_only then return {} end
    term, fork = take_over(meta, offset), tonumber(offset)
  end
  local heard, heard_epoch, heard_term = tonumber(args[1] or ''), args[2], tonumber(args[3] or '')
  local function answer()
    if SHARDED then return {epoch or '', offset or '0', digits(term)} end
    return {epoch or '', offset or '0'}
  end
  if not heard then return answer() end
  local lost = not epoch
  if heard_epoch == epoch then
    lost = tonumber(offset) < heard
    if heard_term and heard_term ~= term then
      lost = lost or heard > fork or heard_term + 1 ~= term
    end
  end
  if lost then
    if reads_only then return {} end
    local left = redis.call('PTTL', meta)
    epoch, offset, term = begin(tag), '0', 1
    redis.call('PEXPIRE', meta, left > 0 and left or 604800000)
  end
  return answer()
end

local function position_read(keys, args) return position(keys, args, true) end

local function history_remove(keys)
  local _, tag = only_channel(keys)
  together('tidings:meta:' .. tag, 'tidings:stream:' .. tag)
  return redis.call('DEL', 'tidings:stream:' .. tag)
end

-- Lets go of the members whose time is over; every node calls often enough that there are never many.
local function expire(tag, time)
  local until_key, present = 'tidings:until:' .. tag, 'tidings:present:' .. tag
  together(until_key, present)
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
  together('tidings:until:' .. tag, 'tidings:present:' .. tag)
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

-- Lets go of the values of a register whose time is over.
local function expire_kept(tag)
  local kept, until_key = 'tidings:kept:' .. tag, 'tidings:keptuntil:' .. tag
  together(kept, until_key)
  while true do
    local gone = redis.call('ZRANGEBYSCORE', until_key, '-inf', digits(now()), 'LIMIT', 0, 1000)
    if #gone == 0 then return kept, until_key end
    redis.call('ZREM', until_key, unpack(gone))
    redis.call('HDEL', kept, unpack(gone))
  end
end

-- name, value, ttl ms | '' for ever, most
local function keep(keys, args)
  local _, tag = only_channel(keys)
  local kept, until_key = expire_kept(tag)
  local name, value = args[1], args[2]
  if redis.call('HLEN', kept) >= tonumber(whole(args[4], '100000', 'most')) and redis.call('HEXISTS', kept, name) == 0 then
    return redis.error_reply('ERR tidings: the register is full')
  end
  redis.call('HSET', kept, name, value)
  if args[3] and args[3] ~= '' then
    redis.call('ZADD', until_key, digits(now() + whole(args[3], '1', 'ttl')), name)
  else
    redis.call('ZREM', until_key, name)
  end
  return redis.status_reply('OK')
end

-- name
local function forget(keys, args)
  local _, tag = only_channel(keys)
  local kept, until_key = expire_kept(tag)
  redis.call('HDEL', kept, args[1])
  redis.call('ZREM', until_key, args[1])
  return redis.status_reply('OK')
end

-- -> values; those whose time is over are left out by their readers, so that this only reads
local function kept(keys)
  local _, tag = only_channel(keys)
  return redis.call('HVALS', 'tidings:kept:' .. tag)
end

-- In a cluster, nodes call each function by a key of the channel's instead of its name: while its slot is moved, Redis
-- answers on which side such a key is, whereas a name is no key and so on neither.
local function named(key)
  local tag = string.match(key or '', '^tidings:%w+:(.+)$') or ''
  return string.sub(tag, 1, 1) == ':' and string.sub(tag, 2) or string.sub(tag, 2, -2)
end

-- Redis refuses a function while it takes no writes (it is full, a replica, cannot save, lacks replicas), unless the
-- function says that it only reads (`no-writes`); one that frees memory is let through when Redis is full (`allow-oom`).
local function register(name, call, ...)
  redis.register_function{function_name = 'tidings_' .. name, callback = call, flags = {...}}
  if SHARDED then
    redis.register_function{
      function_name = 'tidings_keyed_' .. name,
      callback = function(keys, args) return call({named(keys[1])}, args) end,
      flags = {...},
    }
  end
end

register('publish', publish)
register('history', history)
register('position', position)
register('position_read', position_read, 'no-writes')
register('history_remove', history_remove, 'allow-oom')
register('presence_add', presence_add)
register('presence_remove', presence_remove, 'allow-oom')
register('presence', presence)
register('presence_stats', presence_stats)
register('keep', keep)
register('forget', forget, 'allow-oom')
register('kept', kept, 'no-writes')
