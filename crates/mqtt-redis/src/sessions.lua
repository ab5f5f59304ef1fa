
-- What connections and nodes call.

-- node, lease ms, key, connection, expiry s, 1 to discard an earlier session, 1 if the session outlives the connection, most
-- sessions, most bytes of a session, most bytes of all
-- -> 0 if there is no session, 1 if a new one begins, 2 if there are as many as the limit, 3 if an earlier one continues; number
-- of sessions; then of an earlier one: dropped messages, highest serial that was read, number of subscriptions, filter and
-- options of each, identifiers as in `mqttids`
local function open(keys, args)
  local name, tag = only_channel(keys)
  local store = store_keys(tag)
  local node, lease, connection, expiry = args[1], whole(args[2], '10000', 'lease'), args[4], whole(args[5], '0', 'expiry')
  local session, is_kept = open_session(store, args[3]), args[7] == '1'
  redis.call('ZADD', store.nodes, digits(now() + lease), node)
  if session.exists and args[6] == '1' then
    local woken = {}
    remove_session(store, session, limits_of(args[9], args[10]), woken)
    session = open_session(store, args[3])
    wake(name, store, woken)
    write_total(store)
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
    local limits = limits_of(args[at + 1], args[at + 2])
    enqueue(store, session, tonumber(args[at]), args[at + 3], '', args[at + 4], limits, seconds(store))
    return at + 5
  end,
}

-- How long a client waits for its subscription after this began, in ms: another node may rely on the number before.
local function wait_since(store, field)
  local since = tonumber(redis.call('HGET', store.counts, field) or '0')
  return math.max(0, math.min(UNNOTICED, since + UNNOTICED - now()))
end

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
    local kind, filter = args[at], args[at + 1]
    if not STEPS[kind] then
      write_total(store)
      error({err = 'ERR tidings: an unknown step of a session'})
    end
    at = STEPS[kind](store, session, args, at + 1)
    if kind == 'S' and redis.call('ZCARD', store.nodes) > 1 then
      wait = math.max(wait, wait_since(store, 'since'))
      if shared_pattern(filter) then wait = math.max(wait, wait_since(store, 'groupssince')) end
    elseif kind == 'M' then
      note_woken(session, woken)
    end
  end
  wake(name, store, woken)
  write_total(store)
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
  write_total(store)
  return answer
end

-- node, key, connection, expiry s, highest serial that was sent | '', most bytes of a session, most bytes of all
-- -> 0, or 1 or 2 as the answer of `steps`
local function close(keys, args)
  local name, tag = only_channel(keys)
  local store = store_keys(tag)
  local session, other = own_session(store, args[1], args[2], args[3])
  if not session then return {other} end
  local expiry, limits, woken = whole(args[4], '0', 'expiry'), limits_of(args[6], args[7]), {}
  -- The last messages that were read may not have been sent.
  session.sent = math.min(session.sent, tonumber(whole(args[5], digits(session.sent), 'serial')))
  redis.call('HSET', session.session, 't', digits(session.sent))
  if tonumber(expiry) == 0 then
    remove_session(store, session, limits, woken)
  else
    leave_node(store, session)
    session.node = ''
    redis.call('HSET', session.session, 'c', '', 'n', '', 'e', expiry)
    redis.call('ZADD', store.until_key, digits(now() + expiry * 1000), session.key)
    set_turns(store, session)
    leave_groups(store, session, session.sent, limits, woken)
  end
  wake(name, store, woken)
  write_total(store)
  return {'0'}
end

-- The sessions of a node that has ended have no connection any more.
local function leave_ended(store, node, most, limits, woken)
  local members = named_key('of', store.tag, node)
  for _, key in ipairs(redis.call('SRANDMEMBER', members, most)) do
    local session = open_session(store, key)
    redis.call('SREM', members, key)
    if session.node == node then
      session.node = ''
      redis.call('HSET', session.session, 'n', '')
      redis.call('ZADD', store.until_key, digits(now() + session.expiry * 1000), key)
      set_turns(store, session)
      leave_groups(store, session, session.sent, limits, woken)
    end
  end
  if redis.call('EXISTS', members) == 0 then
    redis.call('ZREM', store.nodes, node)
    redis.call('HDEL', store.counts, 'w:' .. node)
  end
end

-- node, lease ms, most sessions in one step, most bytes of a session, most bytes of all, cursor of the sessions of this node
-- -> number of sessions, of those whose clients are connected, bytes of messages, messages dropped, sessions expired, wakes of this
-- node, all since the store began; number of sessions whose clients are connected to this node; 1 if messages are to be passed to
-- other members, else 0; number of groups; the next cursor, and some sessions of this node: key, connection and expiry of each
local function sweep(keys, args)
  local name, tag = only_channel(keys)
  local store = store_keys(tag)
  local node, lease, most = args[1], whole(args[2], '10000', 'lease'), whole(args[3], '100', 'sessions')
  local limits, woken, time = limits_of(args[4], args[5]), {}, now()
  redis.call('ZADD', store.nodes, digits(time + lease), node)
  for _, other in ipairs(redis.call('ZRANGEBYSCORE', store.nodes, '-inf', digits(time), 'LIMIT', 0, 16)) do
    leave_ended(store, other, most, limits, woken)
  end
  local ended = redis.call('ZRANGEBYSCORE', store.until_key, '-inf', digits(now()), 'LIMIT', 0, most)
  for _, key in ipairs(ended) do remove_session(store, open_session(store, key), limits, woken) end
  if #ended > 0 then redis.call('HINCRBY', store.counts, 'expired', #ended) end
  local has_more = continue_leaving(store, limits, woken)
  wake(name, store, woken)
  write_total(store)
  local counts = redis.call('HMGET', store.counts, 'dropped', 'expired', 'w:' .. node, 'groups')
  local count, connected = redis.call('ZCARD', store.until_key), redis.call('ZCOUNT', store.until_key, '+inf', '+inf')
  local own = named_key('of', tag, node)
  local page = redis.call('SSCAN', own, whole(args[6], '0', 'cursor'), 'COUNT', most)
  local answer = {
    digits(count), digits(connected), redis.call('GET', store.bytes) or '0', counts[1] or '0', counts[2] or '0', counts[3] or '0',
    digits(redis.call('SCARD', own)), has_more and '1' or '0', counts[4] or '0', page[1],
  }
  for _, key in ipairs(page[2]) do
    local session = redis.call('HMGET', named_key('session', tag, key), 'c', 'e')
    for _, text in ipairs({key, session[1] or '', session[2] or '0'}) do answer[#answer + 1] = text end
  end
  return answer
end

-- A client must be able to return, to get and to acknowledge messages when Redis is full. New sessions have a bound of their own.
register('mqtt_open', open, 'allow-oom')
register('mqtt_steps', steps, 'allow-oom')
register('mqtt_read', read_messages, 'allow-oom')
register('mqtt_close', close, 'allow-oom')
register('mqtt_append', append)
register('mqtt_sweep', sweep, 'allow-oom')

end
