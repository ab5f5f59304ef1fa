
-- Filters, their subscribers, and the groups of shared subscriptions.

-- The turns of members whose clients are away begin here.
local AWAY = 2 ^ 52
-- How many members of a group are tried, to find one with room for a message.
local TRIED = 8
-- Most messages that one step passes to other members.
local PASSED_AT_ONCE = 500
-- The beginning of the name of a session that has ended.
local ENDED = '\003'

local function next_turn(store) return redis.call('HINCRBY', store.counts, 'turn', 1) end

-- The filter of a shared subscription without `$share/NAME/`; nothing for another one.
local function shared_pattern(filter)
  if string.sub(filter, 1, 7) ~= '$share/' then return nil end
  local slash = string.find(filter, '/', 8, true)
  if not slash then error({err = 'ERR tidings: a shared subscription without a filter'}) end
  return string.sub(filter, slash + 1)
end

local function each_level(filter, call)
  local at = string.find(filter, '/', 1, true)
  while at do
    call(string.sub(filter, 1, at))
    at = string.find(filter, '/', at + 1, true)
  end
end

-- Adds a subscriber of a filter; returns whether it is new.
local function add_subscriber(store, filter, subscriber)
  if redis.call('ZADD', named_key('subscribers', store.tag, filter), 0, subscriber) == 0 then return false end
  each_level(filter, function(level) redis.call('HINCRBY', store.levels, level, 1) end)
  return true
end

local function remove_subscriber(store, filter, subscriber)
  if redis.call('ZREM', named_key('subscribers', store.tag, filter), subscriber) == 0 then return end
  each_level(filter, function(level)
    if redis.call('HINCRBY', store.levels, level, -1) <= 0 then redis.call('HDEL', store.levels, level) end
  end)
end

-- Gives a member of a group the last turn of those whose clients are connected, or of those whose clients are away.
local function set_turn(store, session, group)
  local turn = next_turn(store) + (session.node == '' and AWAY or 0)
  redis.call('ZADD', named_key('members', store.tag, group), digits(turn), session.key)
end

-- The client of a session has connected or is away.
local function set_turns(store, session)
  for _, group in ipairs(redis.call('SMEMBERS', session.shares)) do set_turn(store, session, group) end
end

local function subscribe(store, session, filter, options)
  if redis.call('HSET', session.subs, filter, options) == 0 then return end
  local pattern = shared_pattern(filter)
  if not pattern then
    add_subscriber(store, filter, 's' .. session.key)
    return
  end
  redis.call('SADD', session.shares, filter)
  set_turn(store, session, filter)
  if add_subscriber(store, pattern, 'g' .. filter) and redis.call('HINCRBY', store.counts, 'groups', 1) == 1 then
    redis.call('HSET', store.counts, 'groupssince', digits(now()))
  end
end

local function unsubscribe(store, session, filter)
  if redis.call('HDEL', session.subs, filter) == 0 then return end
  local pattern = shared_pattern(filter)
  if not pattern then return remove_subscriber(store, filter, 's' .. session.key) end
  local members = named_key('members', store.tag, filter)
  redis.call('SREM', session.shares, filter)
  redis.call('ZREM', members, session.key)
  if redis.call('EXISTS', members) == 0 then
    remove_subscriber(store, pattern, 'g' .. filter)
    redis.call('HINCRBY', store.counts, 'groups', -1)
  end
end

-- The member of a group that gets a message of so many bytes: the next one in turn with room for it, or else the next one, unless
-- it `needs_room`. Those whose clients are away are behind the others, and none of them if `is_connected`. `except` is not selected.
local function select_member(store, group, bytes, limits, except, is_connected, needs_room)
  local first
  for _, key in ipairs(redis.call('ZRANGE', named_key('members', store.tag, group), 0, TRIED)) do
    if key ~= except then
      local session = open_session(store, key)
      if is_connected and session.node == '' then break end
      session.options = redis.call('HGET', session.subs, group)
      local cost = MESSAGE_OVERHEAD + #head_of(0, seconds(store), session.options, group) + #session.options + #group + bytes
      if session.bytes + cost <= limits.session and redis.call('HLEN', session.queue) < MOST_MESSAGES then
        first = session
        break
      end
      if not needs_room then first = first or session end
    end
  end
  if first then set_turn(store, first, group) end
  return first
end

-- Adds a message to a member that `select_member` has found.
local function enqueue_shared(store, member, group, qos, message, limits, time)
  local options = member.options
  enqueue(store, member, math.min(tonumber(string.sub(options, 1, 1)), qos), options, group, message, limits, time)
end

-- Passes messages of groups, from a serial on, to other members with room for them: those that were not sent. Of a session that has
-- ended also those with QoS 1 that were sent (MQTT-4.8.2-5 forbids that for QoS 2), and also to members whose clients are away, or
-- without room. Messages of a group stay from the first one on for which there is no member. Returns the serial behind which the
-- next step continues; nothing at the end.
local function pass_on(store, session, from, limits, woken)
  local has_ended, without = string.sub(session.key, 1, 1) == ENDED, {}
  local room = PASSED_AT_ONCE - limits.passed
  if room <= 0 then return from end
  local page = redis.call('ZRANGEBYSCORE', session.grouped, '(' .. digits(from), '+inf', 'WITHSCORES', 'LIMIT', 0, room)
  limits.passed = limits.passed + #page / 2
  for at = 1, #page, 2 do
    local id, serial = page[at], tonumber(page[at + 1])
    local value = redis.call('HGET', session.queue, id)
    local qos, time, options, length, begin = parts_of(value)
    local group = string.sub(value, begin + options, begin + options + length - 1)
    local message = string.sub(value, begin + options + length)
    if not without[group] and not (qos == '2' and serial <= session.sent) then
      local other = select_member(store, group, #message, limits, session.key, not has_ended, not has_ended)
      if other then
        -- First, so that it does not count twice within the bound of all.
        remove_message(store, session, id)
        enqueue_shared(store, other, group, tonumber(qos), message, limits, time)
        note_woken(other, woken)
      else
        without[group] = true
      end
    end
    from = serial
  end
  return #page / 2 == room and from or nil
end

-- Passes messages of a session whose client is away, or which has ended; the rest in later steps.
local function leave_groups(store, session, from, limits, woken)
  if redis.call('EXISTS', session.grouped) == 1 then
    local next_serial = pass_on(store, session, from, limits, woken)
    if next_serial then
      redis.call('HSET', store.left, session.key, digits(next_serial))
      return
    end
  end
  redis.call('HDEL', store.left, session.key)
  if string.sub(session.key, 1, 1) == ENDED then
    add_bytes(store, session, -session.bytes)
    for _, part in ipairs(PARTS) do redis.call('UNLINK', session[part]) end
  end
end

-- Continues with sessions whose messages were not all passed on; returns whether there may be more.
local function continue_leaving(store, limits, woken)
  local entries = redis.call('HRANDFIELD', store.left, 16, 'WITHVALUES')
  for at = 1, #entries, 2 do
    local session = open_session(store, entries[at])
    if session.exists and session.node == '' then
      leave_groups(store, session, tonumber(entries[at + 1]), limits, woken)
    else
      -- Its client has returned.
      redis.call('HDEL', store.left, session.key)
    end
  end
  return redis.call('EXISTS', store.left) == 1
end

local function leave_node(store, session)
  if session.node ~= '' then redis.call('SREM', named_key('of', store.tag, session.node), session.key) end
end

local function join_node(store, session, node)
  leave_node(store, session)
  session.node = node
  redis.call('HSET', session.session, 'n', node)
  redis.call('SADD', named_key('of', store.tag, node), session.key)
  redis.call('ZADD', store.until_key, '+inf', session.key)
  set_turns(store, session)
end

local function remove_session(store, session, limits, woken)
  for _, filter in ipairs(redis.call('HKEYS', session.subs)) do unsubscribe(store, session, filter) end
  leave_node(store, session)
  redis.call('ZREM', store.until_key, session.key)
  redis.call('HDEL', store.left, session.key)
  redis.call('UNLINK', session.ids)
  if redis.call('EXISTS', session.grouped) == 0 then
    add_bytes(store, session, -session.bytes)
    for _, part in ipairs(PARTS) do redis.call('UNLINK', session[part]) end
    return
  end
  redis.call('HSET', session.session, 'n', '', 'c', '')
  local key = ENDED .. digits(next_turn(store))
  for _, part in ipairs(PARTS) do
    if redis.call('EXISTS', session[part]) == 1 then redis.call('RENAME', session[part], named_key(part, store.tag, key)) end
  end
  leave_groups(store, open_session(store, key), 0, limits, woken)
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
