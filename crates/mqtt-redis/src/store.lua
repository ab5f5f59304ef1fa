-- The sessions of MQTT: their subscriptions, and the messages that wait or that their clients have not acknowledged. All keys
-- are in the hash slot of TAG, the tag of the store's name:
--
--   tidings:mqttuntil:TAG         sorted set: the sessions, by the millisecond of their expiry; +inf while their client is connected
--   tidings:mqttbytes:TAG         string: bytes of all messages, with an allowance for each
--   tidings:mqttcounts:TAG        hash: since (when the first of the sessions began, in ms), dropped, expired, w:NODE (number of the last
--                                 wake of a node), groups, groupssince (when the first of the groups began, in ms), turn (a counter)
--   tidings:mqttnodes:TAG         sorted set: the nodes, by the millisecond at which each is considered ended
--   tidings:mqttof:N:TAG:NODE     set: the sessions whose clients are connected to this node
--   tidings:mqttlevels:TAG        hash: beginning of a filter up to a slash -> number of subscribers whose filter begins so
--   tidings:mqttleft:TAG          hash: session -> serial behind which its messages of groups are passed to other members
--   tidings:mqttsubscribers:N:TAG:FILTER  sorted set, all scores 0: the subscribers of this filter: `s` and a session, or `g` and a
--                                 group, which is the filter of a shared subscription, `$share/NAME/FILTER`
--   tidings:mqttmembers:N:TAG:GROUP  sorted set: the sessions of a group, by their turn; those of absent clients behind all others
--   tidings:mqttsession:N:TAG:KEY hash: c connection (it stays when its node has ended), n its node, o its client's id as origin, e expiry
--                                 in s, s last serial, t highest serial that was read, b bytes, d dropped messages, w 1 if its
--                                 node has been woken since it has read all messages
--   tidings:mqttsubs:N:TAG:KEY    hash: filter -> options; the subscriptions of this session
--   tidings:mqttshares:N:TAG:KEY  set: the groups of this session
--   tidings:mqttqueue:N:TAG:KEY   hash: packet identifier -> message
--   tidings:mqttrequired:N:TAG:KEY   sorted set: packet identifiers of messages with QoS 1 and 2, by serial
--   tidings:mqttdroppable:N:TAG:KEY  sorted set: those of messages with QoS 0
--   tidings:mqttgrouped:N:TAG:KEY    sorted set: those of messages of groups
--   tidings:mqttonce:N:TAG:NAME   string: copies of a publication with an idempotency key, or how far its steps are; NAME is its
--                                 topic, U+0000, the key
--   tidings:mqttserved:N:TAG:NUMBER  set: the subscribers that have a publication of several steps
--   tidings:mqttids:N:TAG:KEY     set: `r`, packet identifier of a message of the client with QoS 2 that is not released; `l`, one
--                                 of a message to the client that it has received and not completed
--
-- Options are a digit of the QoS, a digit for No Local, then bytes of the node. A message has the options of all subscriptions
-- that match, one behind the other. A message is QoS, Unix seconds, length of the options, and of a group its length, each behind a
-- space, a line feed, the options, the group, then bytes of the node. The packet identifier of a message is chosen here, so every
-- node sends the message with the same one. A function that a connection calls does nothing if the session belongs to another
-- connection by now.
--
-- A session that has ended, with messages for other members of its groups, continues under a name that begins with U+0003 until
-- these are passed on.
do

-- Allowance for a message, besides its bytes.
local MESSAGE_OVERHEAD = 128
-- Most messages of a session: fewer than packet identifiers.
local MOST_MESSAGES = 50000
local PACKET_IDS = 65535
-- How long a node may rely on its last read that there is no session, or no group, with some reserve, in ms.
local UNNOTICED = 2000

local function store_keys(tag)
  local until_key, bytes, counts = 'tidings:mqttuntil:' .. tag, 'tidings:mqttbytes:' .. tag, 'tidings:mqttcounts:' .. tag
  local nodes, levels, left = 'tidings:mqttnodes:' .. tag, 'tidings:mqttlevels:' .. tag, 'tidings:mqttleft:' .. tag
  together(until_key, bytes, counts, nodes, levels, left)
  return {until_key = until_key, bytes = bytes, counts = counts, nodes = nodes, levels = levels, left = left, tag = tag, added = 0}
end

local function named_key(kind, tag, name) return 'tidings:mqtt' .. kind .. ':' .. #tag .. ':' .. tag .. ':' .. name end

local PARTS = {'session', 'subs', 'shares', 'queue', 'required', 'droppable', 'grouped', 'ids'}

local function open_session(store, key)
  local session = {key = key}
  for _, part in ipairs(PARTS) do session[part] = named_key(part, store.tag, key) end
  local state = redis.call('HMGET', session.session, 'c', 'n', 'o', 'e', 's', 't', 'b', 'w')
  session.exists = state[4] and true or false
  session.connection, session.node, session.origin = state[1] or '', state[2] or '', state[3] or ''
  session.expiry, session.serial = tonumber(state[4] or '0'), tonumber(state[5] or '0')
  session.sent, session.bytes, session.is_woken = tonumber(state[6] or '0'), tonumber(state[7] or '0'), state[8]
  return session
end

-- The bounds of messages: bytes of a session, bytes of all. Messages that one step passes to other members are counted here.
local function limits_of(session_bytes, all_bytes)
  return {session = tonumber(whole(session_bytes, '1048576', 'bytes')), all = tonumber(whole(all_bytes, '268435456', 'bytes')), passed = 0}
end

-- Seconds, the same during a call.
local function seconds(store)
  store.seconds = store.seconds or redis.call('TIME')[1]
  return store.seconds
end

-- The bytes of all messages, with those that this call has added.
local function total_bytes(store)
  store.total = store.total or tonumber(redis.call('GET', store.bytes) or '0')
  return store.total + store.added
end

-- Writes the bytes that a call has added; each function ends with it.
local function write_total(store)
  -- The negative zero is no number for Redis.
  if store.added ~= 0 then redis.call('INCRBY', store.bytes, digits(store.added)) end
  store.added, store.total = 0, nil
end

local function add_bytes(store, session, bytes)
  if bytes == 0 then return end
  session.bytes = session.bytes + bytes
  store.added = store.added + bytes
  redis.call('HSET', session.session, 'b', digits(session.bytes))
end

-- The parts of a message: QoS, seconds, length of the options, length of the group | nil, index of the options.
local function parts_of(value)
  local qos, time, options, group, at = string.match(value, '^(%d+) (%d+) (%d+) ?(%d*)\n()')
  return qos, time, tonumber(options), tonumber(group), at
end

local function remove_message(store, session, id)
  local value = redis.call('HGET', session.queue, id)
  if not value then return false end
  local _, _, _, group = parts_of(value)
  redis.call('HDEL', session.queue, id)
  redis.call('ZREM', session.required, id)
  redis.call('ZREM', session.droppable, id)
  if group then redis.call('ZREM', session.grouped, id) end
  add_bytes(store, session, -(MESSAGE_OVERHEAD + #value))
  return true
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

-- What is before the options of a message; `group` is empty for a message of no group.
local function head_of(qos, time, options, group)
  return digits(qos) .. ' ' .. time .. ' ' .. #options .. (group ~= '' and ' ' .. #group or '') .. '\n'
end

-- Adds a message, and drops those that it displaces. A message without enough room is dropped alone. The bound of all applies to
-- sessions whose clients are away. `group` is empty for a message of no group; `time` is when the message was added first.
local function enqueue(store, session, qos, options, group, message, limits, time)
  local value = head_of(qos, time, options, group) .. options .. group .. message
  local cost = MESSAGE_OVERHEAD + #value
  local bytes = session.bytes + cost - limits.session
  if session.node == '' then bytes = math.max(bytes, total_bytes(store) + cost - limits.all) end
  local excess = redis.call('HLEN', session.queue) + 1 - MOST_MESSAGES
  if bytes > 0 or excess > 0 then
    local ids = displaced(session, qos, bytes, excess)
    local dropped = ids and #ids or 1
    redis.call('HINCRBY', session.session, 'd', dropped)
    redis.call('HINCRBY', store.counts, 'dropped', dropped)
    if not ids then return end
    for _, id in ipairs(ids) do remove_message(store, session, id) end
  end
  local id
  repeat
    session.serial = session.serial + 1
    id = digits((session.serial - 1) % PACKET_IDS + 1)
  until redis.call('HEXISTS', session.queue, id) == 0 and redis.call('SISMEMBER', session.ids, 'l' .. id) == 0
  redis.call('HSET', session.queue, id, value)
  redis.call('ZADD', qos == 0 and session.droppable or session.required, digits(session.serial), id)
  if group ~= '' then redis.call('ZADD', session.grouped, digits(session.serial), id) end
  session.bytes = session.bytes + cost
  store.added = store.added + cost
  redis.call('HSET', session.session, 's', digits(session.serial), 'b', digits(session.bytes))
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
  if session.node == '' or session.is_woken then return end
  session.is_woken = true
  redis.call('HSET', session.session, 'w', 1)
  woken[session.node] = woken[session.node] or {}
  table.insert(woken[session.node], session.connection)
end
