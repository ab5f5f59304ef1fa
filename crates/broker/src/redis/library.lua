#!lua name=tidings
-- The functions of tidings in Redis; each is one atomic step. KEYS[1] is always a channel's name as in PUBLISH, the
-- deployment's prefix included. All keys of a channel share its hash slot in a cluster.
--
--   tidings:meta:TAG      hash: e epoch, o offset of the newest publication
--   tidings:stream:TAG    stream: entry `offset-0`, b body, x extras (see envelope.rs) if there are any
--   tidings:once:N:TAG:KEY  string: the result of the publication made under this idempotency key; N is the length of
--                         TAG in bytes, so that no two pairs of channel and key share a name
--   tidings:present:TAG   hash: client -> info
--   tidings:until:TAG     sorted set: client, by the millisecond of its expiry
--   tidings:kept:TAG      hash: name -> value, a register
--   tidings:keptuntil:TAG sorted set: name, by the millisecond of the value's expiry; values without expiry are not in it
--   tidings:retained:TAG  hash: topic -> millisecond of its expiry (0 for none), space, envelope; the retained messages of MQTT
--   tidings:retainedtopics:TAG  sorted set: all these topics, in the order of their names
--   tidings:retaineduntil:TAG   sorted set: topic, by the millisecond of its expiry
--   tidings:retainedbytes:TAG   string: bytes of these messages, with an allowance for each
--   tidings:wills:TAG     hash: `c`, key of a client | `d`, id of a connection -> node, space, id of its connection, space, will; the
--                         wills of MQTT: `c` of clients that are connected, `d` those whose publication has begun
--   tidings:willnodes:TAG sorted set: the nodes with wills, by the millisecond at which each is considered ended
--   tidings:willbytes:TAG string: bytes of these wills, with an allowance for each
--   tidings:willdelays:TAG  hash: field `c` -> ms between the end of its connection and the publication, if it waits
--   tidings:willsdelayed:TAG  sorted set: fields `c` whose connection has ended, by the millisecond of their publication; their node is -
--   tidings:willsof:N:TAG:NODE  set: the fields `c` of this node
--   tidings:willsdue:N:TAG:NODE set: the fields `d` of this node, which publishes them
--   tidings:held:N:TAG:NODE  hash: client -> 1 if its leave is announced, else 0; the members that this node keeps present
--   tidings:gone:N:TAG:NODE  set: clients of this node with leaves that other nodes have announced, in case it returns
--   (those of maps: maps.lua, which follows)
--
-- A publication with a position or extras goes to the Pub/Sub channel NAME, unit separator (31), `tidings`, in an
-- envelope. No channel of tidings has a control character in its name, so a plain PUBLISH to a channel never arrives there.
--
-- In a cluster, a publication with a position goes to the sharded Pub/Sub channel TAG, 31, `tidings` instead, and the meta
-- hash has more fields: n the primary that wrote last, t the number of its changes (the term), f the offset at the last
-- change.

-- Reading creates nothing: the epoch of a channel without a history is derived, and the first publication uses it.

-- Whether this is a cluster; set when the library is loaded.
local SHARDED = false
-- The fingerprint of this text; set when the library is loaded.
local VERSION = ''

-- Allowance for a publication or a member in an answer, besides its bytes.
local OVERHEAD = 64
-- Most entries of a stream, or members, that are read in one step. An answer exceeds its limit of bytes by these at most.
local STEP = 64

-- The tag of a name: a name with a hash tag of its own keeps it; any other name becomes one.
local function tagged(name)
  local open = string.find(name, '{', 1, true)
  local close = open and string.find(name, '}', open + 1, true)
  if close and close > open + 1 then return ':' .. name end
  return '{' .. name .. '}'
end

-- Checks that an argument is a whole number. Returns it as text: commands accept that, and conversion costs time.
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

-- The epoch of a channel without a history, and of the next history: a digest of the channel's name, of the time of the
-- first use of this copy of the library, and of the number of histories in the channel's bucket that have begun since. So
-- every query returns the same epoch without a write, and no two histories have the same epoch: in a process these numbers
-- outlive the data (FLUSHALL, expiry), and another process (a restart from older data, a promoted replica) or a library
-- that is loaded again has another time.
local BUCKETS = 65536
local loaded, begun = nil, {}

local function bucket(tag) return tonumber(string.sub(redis.sha1hex(tag), 1, 4), 16) % BUCKETS end

local function next_epoch(tag)
  if not loaded then
    local time = redis.call('TIME')
    loaded = time[1] .. '.' .. time[2]
  end
  return string.sub(redis.sha1hex(loaded .. ' ' .. (begun[bucket(tag)] or 0) .. ' ' .. tag), 1, 16)
end

-- Marks the next epoch as used, so that another one follows.
local function use_epoch(tag)
  local at = bucket(tag)
  begun[at] = (begun[at] or 0) + 1
end

local function only_channel(keys)
  if #keys ~= 1 or keys[1] == '' then error({err = 'ERR tidings: one key is expected, the channel'}) end
  return keys[1], tagged(keys[1])
end

-- While a slot is moved from one node of a cluster to another, a key of a channel that is missing here may be on the other
-- node, or may not exist. Redis refuses a command with several keys then. This check refuses the whole call before anything
-- is written; otherwise it costs one lookup.
local function together(...)
  if SHARDED and type(redis.pcall('EXISTS', ...)) == 'table' then
    error({err = 'TRYAGAIN tidings: the hash slot of this channel is being moved'})
  end
end

local function myself() return redis.call('CLUSTER', 'MYID') end

-- Begins the history of a channel; the rest of an earlier history belongs to no current epoch.
local function begin(tag)
  local meta, stream = 'tidings:meta:' .. tag, 'tidings:stream:' .. tag
  together(meta, stream)
  local epoch = next_epoch(tag)
  use_epoch(tag)
  redis.call('DEL', stream)
  redis.call('HSET', meta, 'e', epoch, 'o', 0)
  if SHARDED then redis.call('HSET', meta, 'n', myself(), 't', 1, 'f', 0) end
  return epoch
end

-- Takes over a history that another primary wrote last: it was moved here, or that primary has failed, and publications
-- that it had not replicated are lost. From now on this primary may assign the same offsets again, in another term.
local function take_over(meta, offset)
  redis.call('HSET', meta, 'n', myself(), 'f', offset)
  return redis.call('HINCRBY', meta, 't', 1)
end

-- Appending, storing the result and publishing happen together or not at all. Redis reverts nothing when a function fails
-- halfway, so permissions are checked before anything is written. Redis checks other errors (no memory, no replicas, a
-- moved slot) before the function begins, except keys of another type: those fail at the first write.
local function permitted(...)
  if not redis.acl_check_cmd(...) then
    error({err = 'NOPERM tidings: the user of Redis may not ' .. (...) .. ' as publishing needs'})
  end
end

-- Publishes in an envelope; returns the number of receivers.
local function send(name, tag, offset, epoch, extras, body, sharded)
  local envelope = 'P' .. offset .. ' ' .. epoch .. ' ' .. #extras .. '\n' .. extras .. body
  if not sharded then return redis.call('PUBLISH', name .. '\31tidings', envelope) end
  local receivers = redis.call('SPUBLISH', tag .. '\31tidings', envelope)
  -- There are no sharded patterns. Nodes with patterns subscribe `tidings 31 patterns` on every primary; without such
  -- nodes no message passes through the whole cluster. The publication stays stored if the user may not PUBLISH.
  if redis.call('PUBSUB', 'NUMSUB', 'tidings\31patterns')[2] > 0 then
    redis.pcall('PUBLISH', name .. '\31tidings', envelope)
  end
  return receivers
end

-- body [size [ttl ms [meta ttl ms [idempotency key [extras]]]]]
-- -> receivers, offset, epoch, 1 for a repetition under this key, else 0; offset 0 without a history (size 0)
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
  if kept then
    permitted('XADD', stream, '1', 'b', '')
    permitted('HSET', meta, 'o', '1')
    permitted('PEXPIRE', stream, '1')
  end
  if kept or once then
    permitted(sharded and 'SPUBLISH' or 'PUBLISH', sharded and tag .. '\31tidings' or enveloped and name .. '\31tidings' or name, '')
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
    -- The stream first: if its key is of another type, nothing has changed.
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
    receivers = send(name, tag, offset, epoch, extras, body, sharded)
  else
    receivers = redis.call('PUBLISH', name, body)
  end
  if once then
    redis.call('SET', once, receivers .. ' ' .. offset .. ' ' .. epoch, 'PX', 300000)
  end
  return {receivers, offset, epoch, 0}
end

-- Bytes of an entry as returned by XRANGE.
local function size(entry)
  local bytes = OVERHEAD
  for _, text in ipairs(entry[2]) do bytes = bytes + #text end
  return bytes
end

-- At most `count` entries of a stream from one offset to another, in that order, as many as fit into `budget` bytes but at
-- least one. Read in steps, so that memory in Redis and in the caller is bounded.
local function read(stream, order, from, to, count, budget)
  local entries, bytes, step = {}, 0, 4
  while #entries < count do
    local page = redis.call(order, stream, from, to, 'COUNT', digits(math.min(step, count - #entries)))
    for _, entry in ipairs(page) do
      bytes = bytes + size(entry)
      if bytes > budget and #entries > 0 then return entries end
      entries[#entries + 1] = entry
    end
    if #page < step then return entries end
    from, step = '(' .. page[#page][1], math.min(step * 2, STEP)
  end
  return entries
end

-- meta ttl ms (not used any more), lowest offset | '', highest offset | '', count | '' for all, '' | 'reverse' [, bytes
-- | '' for any number]
-- -> epoch, offset, entries (as returned by XRANGE): fewer than requested if they take more bytes
local function history(keys, args)
  local _, tag = only_channel(keys)
  local meta = 'tidings:meta:' .. tag
  local state = redis.call('HMGET', meta, 'e', 'o')
  local epoch, offset = state[1], state[2]
  local stream = 'tidings:stream:' .. tag
  if not epoch then
    together(meta, stream)
    return {next_epoch(tag), '0', {}}
  end
  local lowest, highest = args[2] or '', args[3] or ''
  local count = tonumber(whole(args[4], '9007199254740991', 'count'))
  local budget = tonumber(whole(args[6], '9007199254740991', 'bytes'))
  if lowest == '' then lowest = '-' end
  if highest == '' then highest = '+' end
  if count == 0 or (lowest ~= '-' and tonumber(lowest) > tonumber(offset)) then return {epoch, offset, {}} end
  together(meta, stream)
  if args[5] == 'reverse' then
    return {epoch, offset, read(stream, 'XREVRANGE', highest, lowest, count, budget)}
  end
  return {epoch, offset, read(stream, 'XRANGE', lowest, highest, count, budget)}
end

-- [offset, epoch [, term]: the position of the node's last message] -> epoch, offset; '' and 0 without a history and
-- without a position of the node; in a cluster the term as well
-- A history with a lower offset than the node's position ends: it was restored from older data, and would assign the same
-- offsets again. In a cluster, a history also ends when the node's offset is higher than this primary's was when it took
-- over, even if the history has grown since. Without a history, the next epoch differs from that of the node's position.
-- With `reads_only`, the answer is empty where a write would be necessary.
local function position(keys, args, reads_only)
  local _, tag = only_channel(keys)
  local meta, stream = 'tidings:meta:' .. tag, 'tidings:stream:' .. tag
  local state = redis.call('HMGET', meta, 'e', 'o', 'n', 't', 'f')
  local epoch, offset, term, fork = state[1], state[2], tonumber(state[4] or '1'), tonumber(state[5] or '0')
  if SHARDED and epoch and state[3] ~= myself() then
    if reads_only then return {} end
    term, fork = take_over(meta, offset), tonumber(offset)
  end
  local known, known_epoch, known_term = tonumber(args[1] or ''), args[2], tonumber(args[3] or '')
  if not epoch then
    epoch, offset = '', '0'
    if known then
      together(meta, stream)
      if known > 0 and next_epoch(tag) == known_epoch then use_epoch(tag) end
      epoch = next_epoch(tag)
    end
  elseif known and known_epoch == epoch then
    local lost = tonumber(offset) < known
    if known_term and known_term ~= term then
      lost = lost or known > fork or known_term + 1 ~= term
    end
    if lost then
      if reads_only then return {} end
      together(meta, stream)
      redis.call('DEL', meta, stream)
      if next_epoch(tag) == known_epoch then use_epoch(tag) end
      epoch, offset, term = next_epoch(tag), '0', 1
    end
  end
  if SHARDED then return {epoch, offset, digits(term)} end
  return {epoch, offset}
end

local function position_read(keys, args) return position(keys, args, true) end

local function history_remove(keys)
  local _, tag = only_channel(keys)
  together('tidings:meta:' .. tag, 'tidings:stream:' .. tag)
  return redis.call('DEL', 'tidings:stream:' .. tag)
end

-- Removes expired members; every node calls often enough that there are never many.
local function expire_members(tag, time)
  local until_key, present = 'tidings:until:' .. tag, 'tidings:present:' .. tag
  together(until_key, present)
  while true do
    local gone = redis.call('ZRANGEBYSCORE', until_key, '-inf', digits(time), 'LIMIT', 0, 1000)
    if #gone == 0 then return end
    redis.call('ZREM', until_key, unpack(gone))
    redis.call('HDEL', present, unpack(gone))
  end
end

-- The keys of the members of a channel that a node keeps present, and of those that were evicted from it.
local function of_node(tag, node)
  local rest = #tag .. ':' .. tag .. ':' .. node
  return 'tidings:held:' .. rest, 'tidings:gone:' .. rest
end

-- Announces to subscribers that a member has joined (J) or left (L).
local function announce(name, tag, kind, info)
  if SHARDED then
    redis.call('SPUBLISH', tag .. '\31tidings', kind .. info)
  else
    redis.call('PUBLISH', name .. '\31tidings', kind .. info)
  end
end

-- client, info, ttl ms [, node, 1 if joins and leaves are announced]
local function presence_add(keys, args)
  local name, tag = only_channel(keys)
  local client, info = args[1], args[2]
  local time, ttl = now(), tonumber(whole(args[3], '60000', 'ttl'))
  expire_members(tag, time)
  local until_key, present = 'tidings:until:' .. tag, 'tidings:present:' .. tag
  redis.call('ZADD', until_key, digits(time + ttl), client)
  redis.call('HSET', present, client, info)
  -- Both keys live as long as the member with the latest expiry.
  if redis.call('PTTL', present) < ttl then
    redis.call('PEXPIRE', until_key, digits(ttl))
    redis.call('PEXPIRE', present, digits(ttl))
  end
  local node, announced = args[4] or '', args[5] == '1'
  if node ~= '' then
    local held, gone = of_node(tag, node)
    together(held, gone, present)
    redis.call('HSET', held, client, announced and '1' or '0')
    if redis.call('PTTL', held) < ttl then redis.call('PEXPIRE', held, digits(ttl)) end
    -- The node was disconnected, and others have announced that its members left: this member joins again.
    if redis.call('SREM', gone, client) == 1 and announced then announce(name, tag, 'J', info) end
  end
  return redis.status_reply('OK')
end

-- client [, node]
local function presence_remove(keys, args)
  local _, tag = only_channel(keys)
  together('tidings:until:' .. tag, 'tidings:present:' .. tag)
  redis.call('ZREM', 'tidings:until:' .. tag, args[1])
  redis.call('HDEL', 'tidings:present:' .. tag, args[1])
  if args[2] and args[2] ~= '' then
    local held, gone = of_node(tag, args[2])
    redis.call('HDEL', held, args[1])
    redis.call('SREM', gone, args[1])
  end
  return redis.status_reply('OK')
end

-- node, most members -> number of remaining members
-- Removes members of a node that has ended, and announces their leaves. Several nodes may detect the end: the first call
-- removes a member, so each leave is announced once.
local function presence_evict(keys, args)
  local name, tag = only_channel(keys)
  local until_key, present = 'tidings:until:' .. tag, 'tidings:present:' .. tag
  local held, gone = of_node(tag, args[1])
  together(until_key, present, held, gone)
  local members = redis.call('HRANDFIELD', held, whole(args[2], '1000', 'count'), 'WITHVALUES')
  for at = 1, #members, 2 do
    local client, announced = members[at], members[at + 1] == '1'
    local info = redis.call('HGET', present, client)
    redis.call('HDEL', held, client)
    if info then
      redis.call('ZREM', until_key, client)
      redis.call('HDEL', present, client)
      if announced then
        announce(name, tag, 'L', info)
        redis.call('SADD', gone, client)
      end
    end
  end
  redis.call('PEXPIRE', gone, 600000)
  return redis.call('HLEN', held)
end

-- Calls `each` with the info of every member, reading some at a time, until it returns false.
local function members(tag, each)
  local until_key, present = 'tidings:until:' .. tag, 'tidings:present:' .. tag
  together(until_key, present)
  local at = redis.call('ZCOUNT', until_key, '-inf', digits(now()))
  while true do
    local clients = redis.call('ZRANGE', until_key, digits(at), digits(at + STEP - 1))
    if #clients == 0 then return end
    for _, info in ipairs(redis.call('HMGET', present, unpack(clients))) do
      if info and not each(info) then return end
    end
    at = at + #clients
  end
end

-- [bytes | '' for any number] -> infos; a number if they take more bytes than that
local function presence(keys, args)
  local _, tag = only_channel(keys)
  local budget = tonumber(whole(args[1], '9007199254740991', 'bytes'))
  local infos, bytes = {}, 0
  members(tag, function(info)
    bytes = bytes + #info + OVERHEAD
    infos[#infos + 1] = info
    return bytes <= budget
  end)
  if bytes > budget then return #infos end
  return infos
end

-- -> clients, users; an info begins with its user, as a netstring
local function presence_stats(keys)
  local _, tag = only_channel(keys)
  local users, clients, count = {}, 0, 0
  members(tag, function(info)
    local length, from = string.match(info, '^(%d+):()')
    local user = length and string.sub(info, from, from + length - 1) or ''
    clients = clients + 1
    if not users[user] then
      users[user], count = true, count + 1
    end
    return true
  end)
  return {clients, count}
end

-- Removes the expired values of a register.
local function expire_values(tag)
  local kept, until_key = 'tidings:kept:' .. tag, 'tidings:keptuntil:' .. tag
  together(kept, until_key)
  while true do
    local gone = redis.call('ZRANGEBYSCORE', until_key, '-inf', digits(now()), 'LIMIT', 0, 1000)
    if #gone == 0 then return kept, until_key end
    redis.call('ZREM', until_key, unpack(gone))
    redis.call('HDEL', kept, unpack(gone))
  end
end

-- name, value, ttl ms | '' for no expiry, most values
local function keep(keys, args)
  local _, tag = only_channel(keys)
  local kept, until_key = expire_values(tag)
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
  local kept, until_key = expire_values(tag)
  redis.call('HDEL', kept, args[1])
  redis.call('ZREM', until_key, args[1])
  return redis.status_reply('OK')
end

-- -> values; their readers omit expired ones, so that this function only reads
local function kept(keys)
  local _, tag = only_channel(keys)
  return redis.call('HVALS', 'tidings:kept:' .. tag)
end

-- Allowance for a retained message, besides its topic and its envelope.
local RETAINED_OVERHEAD = 256
-- Topics that are compared with a filter in one call, during which Redis does nothing else.
local TOPICS_AT_ONCE = 1000

local function retained_keys(tag)
  local values, topics = 'tidings:retained:' .. tag, 'tidings:retainedtopics:' .. tag
  local until_key, size = 'tidings:retaineduntil:' .. tag, 'tidings:retainedbytes:' .. tag
  together(values, topics, until_key, size)
  return values, topics, until_key, size
end

-- Removes the retained message of a topic.
local function unretain(tag, topic)
  local values, topics, until_key, size = retained_keys(tag)
  local value = redis.call('HGET', values, topic)
  if not value then return end
  redis.call('HDEL', values, topic)
  redis.call('ZREM', topics, topic)
  redis.call('ZREM', until_key, topic)
  if redis.call('EXISTS', values) == 0 then
    redis.call('DEL', size)
  else
    redis.call('DECRBY', size, digits(RETAINED_OVERHEAD + #topic + #value))
  end
end

-- Removes retained messages that have expired, at most `count` in one step.
local function expire_retained(tag, count)
  local _, _, until_key = retained_keys(tag)
  local gone = redis.call('ZRANGEBYSCORE', until_key, '-inf', digits(now()), 'LIMIT', 0, digits(count))
  for _, topic in ipairs(gone) do unretain(tag, topic) end
  return #gone
end

-- topic, envelope | '' to remove the message, ttl ms | '' for no expiry, most messages, most bytes
-- -> 0, or 1 if there are as many messages as the limit, 2 if they have as many bytes; messages, bytes
local function retain(keys, args)
  local _, tag = only_channel(keys)
  local values, topics, until_key, size = retained_keys(tag)
  local topic, envelope, ttl = args[1], args[2], whole(args[3], '', 'ttl')
  local messages, bytes = tonumber(whole(args[4], '100000', 'messages')), tonumber(whole(args[5], '67108864', 'bytes'))
  expire_retained(tag, 100)
  local full = 0
  if envelope == '' then
    unretain(tag, topic)
  else
    local deadline = ttl == '' and '0' or digits(now() + ttl)
    local value = deadline .. ' ' .. envelope
    local cost = RETAINED_OVERHEAD + #topic + #value
    local function limit()
      local earlier = redis.call('HGET', values, topic)
      local before = earlier and RETAINED_OVERHEAD + #topic + #earlier or 0
      if not earlier and redis.call('HLEN', values) >= messages then return 1 end
      if tonumber(redis.call('GET', size) or '0') - before + cost > bytes then return 2 end
      return 0
    end
    full = limit()
    while full > 0 and expire_retained(tag, 100) > 0 do full = limit() end
    if full == 0 then
      unretain(tag, topic)
      redis.call('HSET', values, topic, value)
      redis.call('ZADD', topics, 0, topic)
      if ttl ~= '' then redis.call('ZADD', until_key, deadline, topic) end
      redis.call('INCRBY', size, digits(cost))
    end
  end
  return {full, redis.call('HLEN', values), tonumber(redis.call('GET', size) or '0')}
end

-- The range of topics that contains those of a filter of MQTT, and a function that compares a topic with the filter.
local function parsed(filter)
  local wildcard = string.find(filter, '[+#]')
  if not wildcard then return '[' .. filter, '[' .. filter, function(topic) return topic == filter end end
  local prefix, deep = string.sub(filter, 1, wildcard - 1), false
  local levels = filter
  if string.sub(filter, -1) == '#' then
    deep, levels = true, string.sub(filter, 1, -3)
    -- The filter a/# matches the topic a.
    if wildcard == #filter then prefix = levels end
  end
  local literal = string.gsub(levels, '[^%w+]', '%%%0')
  local pattern = '^' .. string.gsub(literal, '%+', '[^/]*')
  local is_any = wildcard == 1
  local matches = function(topic)
    if is_any and string.sub(topic, 1, 1) == '$' then return false end
    if filter == '#' then return true end
    local _, last = string.find(topic, pattern)
    if not last then return false end
    return last == #topic or deep and string.sub(topic, last + 1, last + 1) == '/'
  end
  if prefix == '' then return '-', '+', matches end
  return '[' .. prefix, '[' .. prefix .. '\255', matches
end

-- filter, topic after which to read | '', bytes
-- -> messages, bytes (of all), topic after which to continue | '', then topic, envelope and ttl ms (0 for no expiry) of the
-- messages that match; 0 alone if these take more bytes
local function retained(keys, args)
  local _, tag = only_channel(keys)
  local values, topics, _, size = retained_keys(tag)
  local from, to, matches = parsed(args[1])
  if args[2] ~= '' then from = '(' .. args[2] end
  local budget, bytes, time = tonumber(whole(args[3], '9007199254740991', 'bytes')), 0, now()
  local page = redis.call('ZRANGEBYLEX', topics, from, to, 'LIMIT', 0, digits(TOPICS_AT_ONCE))
  local next = #page == TOPICS_AT_ONCE and page[#page] or ''
  local answer = {redis.call('HLEN', values), tonumber(redis.call('GET', size) or '0'), next}
  for _, topic in ipairs(page) do
    local value = matches(topic) and redis.call('HGET', values, topic)
    local deadline, at = string.match(value or '', '^(%d+) ()')
    if deadline and (deadline == '0' or tonumber(deadline) > time) then
      bytes = bytes + RETAINED_OVERHEAD + #topic + #value
      if bytes > budget then return 0 end
      answer[#answer + 1] = topic
      answer[#answer + 1] = string.sub(value, at)
      answer[#answer + 1] = deadline == '0' and 0 or tonumber(deadline) - time
    end
  end
  return answer
end

-- Allowance for a will, besides its field and its value.
local WILL_OVERHEAD = 256
-- Ended nodes whose wills are claimed in one call.
local ENDED_AT_ONCE = 16

local function will_keys(tag)
  local wills, nodes, size = 'tidings:wills:' .. tag, 'tidings:willnodes:' .. tag, 'tidings:willbytes:' .. tag
  together(wills, nodes, size)
  return wills, nodes, size
end

local function wills_of(tag, node, kind)
  return (kind == 'd' and 'tidings:willsdue:' or 'tidings:willsof:') .. #tag .. ':' .. tag .. ':' .. node
end

local function will_cost(field, value) return WILL_OVERHEAD + #field + #value end

-- The node, the client and the will of a field; nothing if it does not exist.
local function get_will(tag, field)
  local wills = will_keys(tag)
  local value = redis.call('HGET', wills, field)
  local node, client, at = string.match(value or '', '^(%S+) (%S+) ()')
  if not node then return end
  return node, client, string.sub(value, at), value
end

local function remove_will(tag, field, node, value)
  local wills, _, size = will_keys(tag)
  redis.call('HDEL', wills, field)
  if string.sub(field, 1, 1) == 'c' then
    redis.call('HDEL', 'tidings:willdelays:' .. tag, field)
    redis.call('ZREM', 'tidings:willsdelayed:' .. tag, field)
  end
  redis.call('SREM', wills_of(tag, node, string.sub(field, 1, 1)), field)
  if redis.call('EXISTS', wills) == 0 then
    redis.call('DEL', size)
  else
    redis.call('DECRBY', size, digits(will_cost(field, value)))
  end
end

-- Stores a will under a field, in place of another one.
local function add_will(tag, field, node, client, will)
  local wills, _, size = will_keys(tag)
  local owner, _, _, held = get_will(tag, field)
  if owner then remove_will(tag, field, owner, held) end
  local value = node .. ' ' .. client .. ' ' .. will
  redis.call('HSET', wills, field, value)
  redis.call('SADD', wills_of(tag, node, string.sub(field, 1, 1)), field)
  redis.call('INCRBY', size, digits(will_cost(field, value)))
end

-- Passes a will to a node that publishes it. The answer gets the connection and the will.
local function begin_will(tag, field, publisher, answer)
  local node, client, will, value = get_will(tag, field)
  if not node then return end
  remove_will(tag, field, node, value)
  add_will(tag, 'd' .. client, publisher, client, will)
  answer[#answer + 1] = client
  answer[#answer + 1] = will
end

-- The connection of a will has ended: passes the will to a node that publishes it, or waits for its delay, `most` ms at most.
local function end_will(tag, field, publisher, answer, time, most)
  local delay = tonumber(redis.call('HGET', 'tidings:willdelays:' .. tag, field) or '0')
  if most and most < delay then delay = most end
  if delay == 0 then return begin_will(tag, field, publisher, answer) end
  local node, client, will, value = get_will(tag, field)
  if not node then return end
  remove_will(tag, field, node, value)
  add_will(tag, field, '-', client, will)
  redis.call('ZADD', 'tidings:willsdelayed:' .. tag, digits(time + delay), field)
end

-- Renews the lease of a node; returns whether it had none, so that other nodes may have claimed its wills.
local function renew_lease(nodes, node, lease, time)
  local held = redis.call('ZSCORE', nodes, node)
  redis.call('ZADD', nodes, digits(time + lease), node)
  return not held or tonumber(held) <= time
end

-- The answer of each function: a flag, the number of wills, their bytes, then connection and will of those that the node publishes.
local function will_answer(tag, flag, answer)
  local wills, _, size = will_keys(tag)
  answer[1], answer[2], answer[3] = flag, redis.call('HLEN', wills), tonumber(redis.call('GET', size) or '0')
  return answer
end

-- node, lease ms, key of the client, its connection, will | '' if it has none, most bytes of all wills, 1 if it connected earlier,
-- delay of the will in ms, 1 if the client continues its session
-- -> 1 if the wills have as many bytes as the limit, so that nothing is changed; 2 if the lease of this node had ended and is
-- renewed now, so that other nodes may have published its other wills; else 0. The will of an earlier connection of the client,
-- which this node publishes; one with a delay is discarded if the session continues
local function will_open(keys, args)
  local _, tag = only_channel(keys)
  local wills, nodes = will_keys(tag)
  local node, lease, field, client, will = args[1], whole(args[2], '10000', 'lease'), 'c' .. args[3], args[4], args[5]
  local most, again = tonumber(whole(args[6], '67108864', 'bytes')), args[7] == '1'
  local answer = {0, 0, 0}
  local exists = redis.call('HEXISTS', wills, field) == 1
  if again and exists or will == '' and not exists then return will_answer(tag, 0, answer) end
  if will ~= '' then
    local _, _, size = will_keys(tag)
    local cost = will_cost(field, node .. ' ' .. client .. ' ' .. will)
    if tonumber(redis.call('GET', size) or '0') + cost > most then return will_answer(tag, 1, answer) end
  end
  local owner, _, _, former = get_will(tag, field)
  local waits = owner == '-' or redis.call('HEXISTS', 'tidings:willdelays:' .. tag, field) == 1
  if owner and waits and args[9] == '1' then
    remove_will(tag, field, owner, former)
  else
    begin_will(tag, field, node, answer)
  end
  if will ~= '' then
    add_will(tag, field, node, client, will)
    local delay = whole(args[8], '0', 'delay')
    if tonumber(delay) > 0 then redis.call('HSET', 'tidings:willdelays:' .. tag, field, delay) end
  end
  local had_no_lease = renew_lease(nodes, node, lease, now())
  return will_answer(tag, had_no_lease and 2 or 0, answer)
end

-- node, key of the client, its connection, 1 to publish the will, else 0, longest delay of the will in ms
-- -> 0, and the will if this node publishes it: the connection has it still
local function will_close(keys, args)
  local _, tag = only_channel(keys)
  local node, field, connection, publishes = args[1], 'c' .. args[2], args[3], args[4] == '1'
  -- A node of an earlier version passes no longest delay.
  local most, answer = args[5] and tonumber(whole(args[5], '0', 'delay')), {0, 0, 0}
  local owner, client, _, value = get_will(tag, field)
  if owner == node and client == connection then
    if publishes then
      end_will(tag, field, node, answer, now(), most)
    else
      remove_will(tag, field, node, value)
    end
  end
  return will_answer(tag, 0, answer)
end

-- node, connection -> 0; the will of the connection is published
local function will_done(keys, args)
  local _, tag = only_channel(keys)
  local field = 'd' .. args[2]
  local owner, _, _, value = get_will(tag, field)
  if owner == args[1] then remove_will(tag, field, owner, value) end
  return will_answer(tag, 0, {0, 0, 0})
end

-- node, lease ms, most wills
-- -> 2 if the lease of this node had ended, so that other nodes may have published its wills, else 0; the wills that this node
-- publishes, those that it publishes already and those of nodes whose leases have ended
local function will_claim(keys, args)
  local _, tag = only_channel(keys)
  local _, nodes = will_keys(tag)
  local node, lease, most = args[1], whole(args[2], '10000', 'lease'), whole(args[3], '100', 'wills')
  local time, answer = now(), {0, 0, 0}
  for _, field in ipairs(redis.call('SRANDMEMBER', wills_of(tag, node, 'd'), most)) do
    local _, client, will = get_will(tag, field)
    answer[#answer + 1] = client
    answer[#answer + 1] = will
  end
  local had_no_lease = renew_lease(nodes, node, lease, time)
  local ended = redis.call('ZRANGEBYSCORE', nodes, '-inf', digits(time), 'LIMIT', 0, ENDED_AT_ONCE)
  for _, other in ipairs(ended) do
    local begun, kept = wills_of(tag, other, 'd'), wills_of(tag, other, 'c')
    for _, fields in ipairs({begun, kept}) do
      while #answer < 3 + 2 * most do
        local field = redis.call('SRANDMEMBER', fields)
        if not field then break end
        if get_will(tag, field) == other then
          if fields == begun then begin_will(tag, field, node, answer) else end_will(tag, field, node, answer, time) end
        end
        redis.call('SREM', fields, field)
      end
    end
    if redis.call('EXISTS', begun, kept) == 0 then redis.call('ZREM', nodes, other) end
  end
  local due = redis.call('ZRANGEBYSCORE', 'tidings:willsdelayed:' .. tag, '-inf', digits(time), 'LIMIT', 0, most)
  for _, field in ipairs(due) do begin_will(tag, field, node, answer) end
  return will_answer(tag, had_no_lease and 2 or 0, answer)
end

-- In a cluster, nodes call each function with a key of the channel instead of its name: while its slot is moved, Redis
-- redirects the call to the node with that key, whereas a name is no key and exists on neither node.
local function named(key)
  local tag = string.match(key or '', '^tidings:%w+:(.+)$') or ''
  return string.sub(tag, 1, 1) == ':' and string.sub(tag, 2) or string.sub(tag, 2, -2)
end

-- The fingerprint of this library, which a node compares with its own.
local function version() return VERSION end

-- Redis refuses a function while it accepts no writes (it is full, a replica, cannot save, lacks replicas), unless the
-- function is registered as reading (`no-writes`); a function that frees memory may run when Redis is full (`allow-oom`).
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
register('history', history, 'no-writes')
register('position', position)
register('position_read', position_read, 'no-writes')
register('history_remove', history_remove, 'allow-oom')
register('presence_add', presence_add)
register('presence_remove', presence_remove, 'allow-oom')
register('presence_evict', presence_evict, 'allow-oom')
register('presence', presence, 'no-writes')
register('presence_stats', presence_stats, 'no-writes')
register('keep', keep)
register('forget', forget, 'allow-oom')
register('kept', kept, 'no-writes')
register('retain', retain)
register('retained', retained, 'no-writes')
-- A client with a will must be able to return when Redis is full. The wills have a bound of their own.
register('will_open', will_open, 'allow-oom')
register('will_close', will_close, 'allow-oom')
register('will_done', will_done, 'allow-oom')
register('will_claim', will_claim, 'allow-oom')
register('version', version, 'no-writes')
