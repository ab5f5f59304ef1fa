-- The sessions of MQTT: their subscriptions, and the messages that wait or that their clients have not acknowledged. All keys
-- are in the hash slot of TAG, the tag of the store's name:
--
--   tidings:mqttuntil:TAG         sorted set: the sessions, by the millisecond of their expiry; +inf while their client is connected
--   tidings:mqttbytes:TAG         string: bytes of all messages, with an allowance for each
--   tidings:mqttcounts:TAG        hash: since (when the first of the sessions began, in ms), dropped, expired, w:NODE (number of the last wake of a node)
--   tidings:mqttnodes:TAG         sorted set: the nodes, by the millisecond at which each is considered ended
--   tidings:mqttof:N:TAG:NODE     set: the sessions whose clients are connected to this node
--   tidings:mqttlevels:TAG        hash: beginning of a filter up to a slash -> number of subscriptions whose filter begins so
--   tidings:mqttfilter:N:TAG:FILTER  hash: session -> options; the subscriptions with this filter
--   tidings:mqttsession:N:TAG:KEY hash: c connection (it stays when its node has ended), n its node, o its client's id as origin, e expiry
--                                 in s, s last serial, t highest serial that was read, b bytes, d dropped messages, w 1 if its
--                                 node has been woken since it has read all messages
--   tidings:mqttsubs:N:TAG:KEY    hash: filter -> options; the subscriptions of this session
--   tidings:mqttqueue:N:TAG:KEY   hash: packet identifier -> message
--   tidings:mqttrequired:N:TAG:KEY   sorted set: packet identifiers of messages with QoS 1 and 2, by serial
--   tidings:mqttdroppable:N:TAG:KEY  sorted set: those of messages with QoS 0
--   tidings:mqttonce:N:TAG:NAME   string: copies of a publication with an idempotency key; NAME is its topic, U+0000, the key
--   tidings:mqttids:N:TAG:KEY     set: `r`, packet identifier of a message of the client with QoS 2 that is not released; `l`, one
--                                 of a message to the client that it has received and not completed
--
-- Options are a digit of the QoS, a digit for No Local, then bytes of the node. A message has the options of all subscriptions
-- that match, one behind the other. A message is QoS, Unix seconds, length of the options, each behind a space, a line feed, the
-- options, then bytes of the node. The packet identifier of a message is chosen here, so every node sends the message with the same
-- one. A function that a connection calls does nothing if the session belongs to another connection by now.
do

-- Allowance for a message, besides its bytes.
local MESSAGE_OVERHEAD = 128
-- Most messages of a session: fewer than packet identifiers.
local MOST_MESSAGES = 50000
local PACKET_IDS = 65535
-- How long a node may rely on its last read that there is no session, with some reserve, in ms.
local UNNOTICED = 2000

local function store_keys(tag)
  local until_key, bytes, counts = 'tidings:mqttuntil:' .. tag, 'tidings:mqttbytes:' .. tag, 'tidings:mqttcounts:' .. tag
  local nodes, levels = 'tidings:mqttnodes:' .. tag, 'tidings:mqttlevels:' .. tag
  together(until_key, bytes, counts, nodes, levels)
  return {until_key = until_key, bytes = bytes, counts = counts, nodes = nodes, levels = levels, tag = tag}
end

local function named_key(kind, tag, name) return 'tidings:mqtt' .. kind .. ':' .. #tag .. ':' .. tag .. ':' .. name end

local function open_session(store, key)
  local session = {key = key}
  for _, part in ipairs({'session', 'subs', 'queue', 'required', 'droppable', 'ids'}) do
    session[part] = named_key(part, store.tag, key)
  end
  local state = redis.call('HMGET', session.session, 'c', 'n', 'o', 'e', 's', 't', 'b')
  session.exists = state[4] and true or false
  session.connection, session.node, session.origin = state[1] or '', state[2] or '', state[3] or ''
  session.expiry, session.serial = tonumber(state[4] or '0'), tonumber(state[5] or '0')
  session.sent, session.bytes = tonumber(state[6] or '0'), tonumber(state[7] or '0')
  return session
end

local function add_bytes(store, session, bytes)
  -- The negative zero is no number for Redis.
  if bytes == 0 then return end
  session.bytes = session.bytes + bytes
  redis.call('HSET', session.session, 'b', digits(session.bytes))
  redis.call('INCRBY', store.bytes, digits(bytes))
end

local function remove_message(store, session, id)
  local value = redis.call('HGET', session.queue, id)
  if not value then return false end
  redis.call('HDEL', session.queue, id)
  redis.call('ZREM', session.required, id)
  redis.call('ZREM', session.droppable, id)
  add_bytes(store, session, -(MESSAGE_OVERHEAD + #value))
  return true
end

local function each_level(filter, call)
  local at = string.find(filter, '/', 1, true)
  while at do
    call(string.sub(filter, 1, at))
    at = string.find(filter, '/', at + 1, true)
  end
end

local function subscribe(store, session, filter, options)
  if redis.call('HSET', session.subs, filter, options) == 1 then
    each_level(filter, function(level) redis.call('HINCRBY', store.levels, level, 1) end)
  end
  redis.call('HSET', named_key('filter', store.tag, filter), session.key, options)
end

local function unsubscribe(store, session, filter)
  if redis.call('HDEL', session.subs, filter) == 0 then return end
  redis.call('HDEL', named_key('filter', store.tag, filter), session.key)
  each_level(filter, function(level)
    if redis.call('HINCRBY', store.levels, level, -1) <= 0 then redis.call('HDEL', store.levels, level) end
  end)
end

local function leave_node(store, session)
  if session.node ~= '' then redis.call('SREM', named_key('of', store.tag, session.node), session.key) end
end

local function remove_session(store, session)
  for _, filter in ipairs(redis.call('HKEYS', session.subs)) do unsubscribe(store, session, filter) end
  add_bytes(store, session, -session.bytes)
  leave_node(store, session)
  redis.call('UNLINK', session.session, session.subs, session.queue, session.required, session.droppable, session.ids)
  redis.call('ZREM', store.until_key, session.key)
end

local function join_node(store, session, node)
  leave_node(store, session)
  session.node = node
  redis.call('HSET', session.session, 'n', node)
  redis.call('SADD', named_key('of', store.tag, node), session.key)
  redis.call('ZADD', store.until_key, '+inf', session.key)
end

-- The session of a key, if it belongs to this connection. If its node was considered ended, it is not any more. Otherwise
-- nothing, and 1 if it belongs to another connection, 2 if it does not exist.
local function own_session(store, node, key, connection)
  local session = open_session(store, key)
  if not session.exists then return nil, '2' end
  if connection == '' or session.connection ~= connection then return nil, '1' end
  if session.node ~= node then join_node(store, session, node) end
  return session
end

-- The packet identifiers of the messages that a new one displaces, to free so many bytes and messages: the oldest ones with QoS 0,
-- then the oldest ones that were not read. A new message with QoS 0 displaces none of these. Nothing if that is not enough.
local function displaced(session, qos, bytes, count)
  local ids, freed = {}, 0
  local function is_enough() return freed >= bytes and #ids >= count end
  local function take(list, from)
    local at = 0
    while not is_enough() do
      local page = redis.call('ZRANGEBYSCORE', list, from, '+inf', 'LIMIT', at, 100)
      if #page == 0 then return end
      for _, id in ipairs(page) do
        if is_enough() then return end
        ids[#ids + 1] = id
        freed = freed + MESSAGE_OVERHEAD + redis.call('HSTRLEN', session.queue, id)
      end
      at = at + 100
    end
  end
  take(session.droppable, '-inf')
  if qos > 0 then take(session.required, '(' .. digits(session.sent)) end
  return is_enough() and ids or nil
end

-- Adds a message, and drops those that it displaces. A message without enough room is dropped alone. The bound of all applies to
-- sessions whose clients are away.
local function enqueue(store, session, qos, options, message, limit, most)
  local time = redis.call('TIME')[1]
  local value = digits(qos) .. ' ' .. time .. ' ' .. #options .. '\n' .. options .. message
  local cost = MESSAGE_OVERHEAD + #value
  local total = tonumber(redis.call('GET', store.bytes) or '0')
  local bytes = session.bytes + cost - limit
  if session.node == '' then bytes = math.max(bytes, total + cost - most) end
  local ids = displaced(session, qos, bytes, redis.call('HLEN', session.queue) + 1 - MOST_MESSAGES)
  local dropped = ids and #ids or 1
  if dropped > 0 then
    redis.call('HINCRBY', session.session, 'd', dropped)
    redis.call('HINCRBY', store.counts, 'dropped', dropped)
  end
  if not ids then return end
  for _, id in ipairs(ids) do remove_message(store, session, id) end
  local id
  repeat
    session.serial = session.serial + 1
    id = digits((session.serial - 1) % PACKET_IDS + 1)
  until redis.call('HEXISTS', session.queue, id) == 0 and redis.call('SISMEMBER', session.ids, 'l' .. id) == 0
  redis.call('HSET', session.queue, id, value)
  redis.call('ZADD', qos == 0 and session.droppable or session.required, digits(session.serial), id)
  redis.call('HSET', session.session, 's', digits(session.serial))
  add_bytes(store, session, cost)
end

-- The filters that match a topic and may exist: those of its levels, each or `+`, and those that end with `#`.
local function candidates(store, topic)
  local levels, from, at = {}, 1, string.find(topic, '/', 1, true)
  while at do
    levels[#levels + 1] = string.sub(topic, from, at - 1)
    from = at + 1
    at = string.find(topic, '/', from, true)
  end
  levels[#levels + 1] = string.sub(topic, from)
  local is_hidden = string.sub(topic, 1, 1) == '$'
  local found = {}
  local function visit(prefix, index)
    if not (index == 1 and is_hidden) then found[#found + 1] = prefix .. '#' end
    if index > #levels then return end
    for step = 1, 2 do
      local level = step == 1 and levels[index] or '+'
      if step == 1 or not (index == 1 and is_hidden) then
        local filter = prefix .. level
        if index == #levels then found[#found + 1] = filter end
        if redis.call('HEXISTS', store.levels, filter .. '/') == 1 then visit(filter .. '/', index + 1) end
      end
    end
  end
  visit('', 1)
  return found
end

-- Wakes the nodes of sessions with new messages.
local function wake(name, store, woken)
  for node, connections in pairs(woken) do
    -- At least the time, so that the numbers grow also after the lease of the node has ended.
    local field = 'w:' .. node
    local number = digits(math.max(tonumber(redis.call('HGET', store.counts, field) or '0') + 1, now()))
    redis.call('HSET', store.counts, field, number)
    -- Without the permission the node finds the difference of the numbers.
    redis.pcall('PUBLISH', name .. '.' .. node, number .. ' ' .. table.concat(connections, ' '))
  end
end

local function note_woken(session, woken)
  if session.node == '' or redis.call('HGET', session.session, 'w') then return end
  redis.call('HSET', session.session, 'w', 1)
  woken[session.node] = woken[session.node] or {}
  table.insert(woken[session.node], session.connection)
end

-- topic, origin, QoS, most bytes of a session, most bytes of all, message, idempotency key | ''
-- -> number of copies, number of sessions
local function append(keys, args)
  local name, tag = only_channel(keys)
  local store = store_keys(tag)
  local topic, origin, published = args[1], args[2], tonumber(whole(args[3], '1', 'QoS'))
  local limit, most = tonumber(whole(args[4], '1048576', 'bytes')), tonumber(whole(args[5], '268435456', 'bytes'))
  local message, count, woken = args[6], 0, {}
  local once = args[7] ~= '' and named_key('once', tag, topic .. '\0' .. args[7])
  local first = once and redis.call('GET', once)
  if first then return {first, digits(redis.call('ZCARD', store.until_key))} end
  local copies, ordered = {}, {}
  for _, filter in ipairs(candidates(store, topic)) do
    local subscribers = redis.call('HGETALL', named_key('filter', tag, filter))
    for at = 1, #subscribers, 2 do
      local key, options = subscribers[at], subscribers[at + 1]
      local copy = copies[key]
      if not copy then
        copy = {session = open_session(store, key), qos = 0, options = {}}
        copies[key] = copy
        ordered[#ordered + 1] = copy
      end
      local is_own = string.sub(options, 2, 2) == '1' and copy.session.origin == origin
      if copy.session.exists and not is_own then
        copy.qos = math.max(copy.qos, math.min(tonumber(string.sub(options, 1, 1)), published))
        table.insert(copy.options, options)
      end
    end
  end
  for _, copy in ipairs(ordered) do
    local session = copy.session
    -- A client that is connected gets messages with QoS 0 from its node.
    if #copy.options > 0 and (copy.qos > 0 or session.node == '') then
      count = count + 1
      -- A client whose session has no room is disconnected when it reads.
      enqueue(store, session, copy.qos, table.concat(copy.options), message, limit, most)
      note_woken(session, woken)
    end
  end
  wake(name, store, woken)
  if once then redis.call('SET', once, digits(count), 'PX', 300000) end
  return {digits(count), digits(redis.call('ZCARD', store.until_key))}
end

-- node, lease ms, key, connection, expiry s, 1 to discard an earlier session, 1 if the session outlives the connection, most
-- sessions
-- -> 0 if there is no session, 1 if a new one begins, 2 if there are as many as the limit, 3 if an earlier one continues; number
-- of sessions; then of an earlier one: dropped messages, highest serial that was read, number of subscriptions, filter and
-- options of each, identifiers as in `mqttids`
local function open(keys, args)
  local _, tag = only_channel(keys)
  local store = store_keys(tag)
  local node, lease, connection, expiry = args[1], whole(args[2], '10000', 'lease'), args[4], whole(args[5], '0', 'expiry')
  local session, is_kept = open_session(store, args[3]), args[7] == '1'
  redis.call('ZADD', store.nodes, digits(now() + lease), node)
  if session.exists and args[6] == '1' then
    remove_session(store, session)
    session = open_session(store, args[3])
  end
  local count = redis.call('ZCARD', store.until_key)
  local answer = {'3', digits(count)}
  if not session.exists then
    if not is_kept then return {'0', digits(count)} end
    if count >= tonumber(whole(args[8], '100000', 'sessions')) then return {'2', digits(count)} end
    if count == 0 then redis.call('HSET', store.counts, 'since', digits(now())) end
    answer = {'1', digits(count + 1)}
  else
    answer[3] = redis.call('HGET', session.session, 'd') or '0'
    answer[4] = digits(session.sent)
    local subs = redis.call('HGETALL', session.subs)
    answer[5] = digits(#subs / 2)
    for _, text in ipairs(subs) do answer[#answer + 1] = text end
    for _, id in ipairs(redis.call('SMEMBERS', session.ids)) do answer[#answer + 1] = id end
    redis.call('HDEL', session.session, 'd', 'w')
  end
  redis.call('HSET', session.session, 'c', connection, 'o', connection, 'e', expiry)
  join_node(store, session, node)
  return answer
end

-- How each step changes a session; each takes the arguments from `at` and returns the index behind them.
--   S filter options    a subscription is made, or its options are replaced
--   U filter            it has ended
--   A id                a message to the client has ended
--   L id                the client has received one with QoS 2
--   R id, C id          a message of the client with QoS 2 is published; the client has released it
--   M qos limit most options message   a message for this client alone
local STEPS = {
  S = function(store, session, args, at)
    subscribe(store, session, args[at], args[at + 1])
    return at + 2
  end,
  U = function(store, session, args, at)
    unsubscribe(store, session, args[at])
    return at + 1
  end,
  A = function(store, session, args, at)
    remove_message(store, session, args[at])
    redis.call('SREM', session.ids, 'l' .. args[at])
    return at + 1
  end,
  L = function(store, session, args, at)
    if remove_message(store, session, args[at]) then redis.call('SADD', session.ids, 'l' .. args[at]) end
    return at + 1
  end,
  R = function(_, session, args, at)
    redis.call('SADD', session.ids, 'r' .. args[at])
    return at + 1
  end,
  C = function(_, session, args, at)
    redis.call('SREM', session.ids, 'r' .. args[at])
    return at + 1
  end,
  M = function(store, session, args, at)
    local qos, limit, most = tonumber(args[at]), tonumber(args[at + 1]), tonumber(args[at + 2])
    enqueue(store, session, qos, args[at + 3], args[at + 4], limit, most)
    return at + 5
  end,
}

-- node, key, connection, steps
-- -> 0, or 1 if the session belongs to another connection, 2 if it does not exist; how long no client may rely on a subscription, in ms: another node may
-- not know yet that there are sessions
local function steps(keys, args)
  local name, tag = only_channel(keys)
  local store = store_keys(tag)
  local session, other = own_session(store, args[1], args[2], args[3])
  if not session then return {other, '0'} end
  local at, wait, woken = 4, 0, {}
  while args[at] do
    local kind = args[at]
    if not STEPS[kind] then error({err = 'ERR tidings: an unknown step of a session'}) end
    at = STEPS[kind](store, session, args, at + 1)
    if kind == 'S' and redis.call('ZCARD', store.nodes) > 1 then
      local since = tonumber(redis.call('HGET', store.counts, 'since') or '0')
      wait = math.max(0, math.min(UNNOTICED, since + UNNOTICED - now()))
    elseif kind == 'M' then
      note_woken(session, woken)
    end
  end
  wake(name, store, woken)
  return {'0', digits(wait)}
end

-- node, key, connection, serial behind which to read, most messages, most bytes
-- -> 0, or 1 if the session belongs to another connection, 2 if it does not exist; 1 if there are more, else 0; dropped messages; then packet identifier (0
-- for QoS 0), serial and message of each. Messages with QoS 0 are removed
local function read_messages(keys, args)
  local _, tag = only_channel(keys)
  local store = store_keys(tag)
  local session, other = own_session(store, args[1], args[2], args[3])
  if not session then return {other, '0', '0'} end
  local behind, most = '(' .. whole(args[4], '0', 'serial'), whole(args[5], '100', 'messages')
  local budget, found = tonumber(whole(args[6], '65536', 'bytes')), {}
  for _, part in ipairs({'required', 'droppable'}) do
    local page = redis.call('ZRANGEBYSCORE', session[part], behind, '+inf', 'WITHSCORES', 'LIMIT', 0, digits(most + 1))
    for at = 1, #page, 2 do found[#found + 1] = {page[at], tonumber(page[at + 1]), part} end
  end
  table.sort(found, function(a, b) return a[2] < b[2] end)
  local answer, bytes, more = {'0', '0', redis.call('HGET', session.session, 'd') or '0'}, 0, false
  for index, one in ipairs(found) do
    local id, serial, part = one[1], one[2], one[3]
    local value = redis.call('HGET', session.queue, id)
    if index > tonumber(most) or index > 1 and bytes + #value > budget then
      more = true
      break
    end
    bytes = bytes + #value
    answer[#answer + 1] = part == 'droppable' and '0' or id
    answer[#answer + 1] = digits(serial)
    answer[#answer + 1] = value
    if part == 'droppable' then remove_message(store, session, id) end
    session.sent = math.max(session.sent, serial)
  end
  redis.call('HSET', session.session, 't', digits(session.sent))
  if more then answer[2] = '1' else redis.call('HDEL', session.session, 'w') end
  return answer
end

-- node, key, connection, expiry s -> 0, or 1 or 2 as the answer of `steps`
local function close(keys, args)
  local _, tag = only_channel(keys)
  local store = store_keys(tag)
  local session, other = own_session(store, args[1], args[2], args[3])
  if not session then return {other} end
  local expiry = whole(args[4], '0', 'expiry')
  if tonumber(expiry) == 0 then
    remove_session(store, session)
  else
    leave_node(store, session)
    redis.call('HSET', session.session, 'c', '', 'n', '', 'e', expiry)
    redis.call('ZADD', store.until_key, digits(now() + expiry * 1000), session.key)
  end
  return {'0'}
end

-- node, lease ms, most sessions in one step
-- -> number of sessions, of those whose clients are connected, bytes of messages, messages dropped, sessions expired, wakes of this
-- node, all since the store began; number of sessions whose clients are connected to this node
local function sweep(keys, args)
  local _, tag = only_channel(keys)
  local store = store_keys(tag)
  local node, lease, most = args[1], whole(args[2], '10000', 'lease'), whole(args[3], '100', 'sessions')
  local time = now()
  redis.call('ZADD', store.nodes, digits(time + lease), node)
  for _, other in ipairs(redis.call('ZRANGEBYSCORE', store.nodes, '-inf', digits(time), 'LIMIT', 0, 16)) do
    local members = named_key('of', tag, other)
    for _, key in ipairs(redis.call('SRANDMEMBER', members, most)) do
      local session = open_session(store, key)
      if session.node == other then
        redis.call('HSET', session.session, 'n', '')
        redis.call('ZADD', store.until_key, digits(time + session.expiry * 1000), key)
      end
      redis.call('SREM', members, key)
    end
    if redis.call('EXISTS', members) == 0 then
      redis.call('ZREM', store.nodes, other)
      redis.call('HDEL', store.counts, 'w:' .. other)
    end
  end
  local ended = redis.call('ZRANGEBYSCORE', store.until_key, '-inf', digits(time), 'LIMIT', 0, most)
  for _, key in ipairs(ended) do remove_session(store, open_session(store, key)) end
  if #ended > 0 then redis.call('HINCRBY', store.counts, 'expired', #ended) end
  local counts = redis.call('HMGET', store.counts, 'dropped', 'expired', 'w:' .. node)
  local count, connected = redis.call('ZCARD', store.until_key), redis.call('ZCOUNT', store.until_key, '+inf', '+inf')
  return {digits(count), digits(connected), redis.call('GET', store.bytes) or '0', counts[1] or '0', counts[2] or '0', counts[3] or '0',
    digits(redis.call('SCARD', named_key('of', tag, node)))}
end

-- A client must be able to return, to get and to acknowledge messages when Redis is full. New sessions have a bound of their own.
register('mqtt_open', open, 'allow-oom')
register('mqtt_steps', steps, 'allow-oom')
register('mqtt_read', read_messages, 'allow-oom')
register('mqtt_close', close, 'allow-oom')
register('mqtt_append', append)
register('mqtt_sweep', sweep, 'allow-oom')

end
