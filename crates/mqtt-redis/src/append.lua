
-- Publications: the subscribers that match, a bounded number in one step.

-- Most subscribers of one step, and most bytes of their copies, except for a few.
local STEP_SUBSCRIBERS = 500
local STEP_BYTES = 4194304
local STEP_LEAST = 16
-- How long a publication that was not completed is known, in ms.
local REMEMBERED = 300000

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

-- The filters with subscribers that match a topic, in an order that stays; and the number of subscribers.
local function matching(store, topic)
  local filters, count = {}, 0
  for _, filter in ipairs(candidates(store, topic)) do
    local subscribers = redis.call('ZCARD', named_key('subscribers', store.tag, filter))
    if subscribers > 0 then filters[#filters + 1] = filter end
    count = count + subscribers
  end
  table.sort(filters)
  return filters, count
end

-- Adds a publication to a session: one copy for all its subscriptions that match. Returns the number of copies.
local function append_to(store, key, publication, woken)
  local session, filters, all, qos = open_session(store, key), publication.filters, {}, 0
  if not session.exists then return 0 end
  for from = 1, #filters, 500 do
    local options = redis.call('HMGET', session.subs, unpack(filters, from, math.min(from + 499, #filters)))
    for at = 1, #options do
      local one = options[at]
      if one and not (string.sub(one, 2, 2) == '1' and session.origin == publication.origin) then
        qos = math.max(qos, math.min(tonumber(string.sub(one, 1, 1)), publication.qos))
        all[#all + 1] = one
      end
    end
  end
  -- A client that is connected gets messages with QoS 0 from its node.
  if #all == 0 or qos == 0 and session.node ~= '' then return 0 end
  -- A client whose session has no room is disconnected when it reads.
  enqueue(store, session, qos, table.concat(all), '', publication.message, publication.limits, seconds(store))
  note_woken(session, woken)
  return 1
end

-- Adds a publication to one member of a group. Returns the number of copies.
local function append_to_group(store, group, publication, woken)
  local member = select_member(store, group, #publication.message, publication.limits)
  if not member then return 0 end
  enqueue_shared(store, member, group, publication.qos, publication.message, publication.limits, seconds(store))
  note_woken(member, woken)
  return 1
end

-- By the first byte of a subscriber.
local APPEND = {s = append_to, g = append_to_group}

-- The progress of a publication as a text: copies, its number, filter and subscriber behind which it continues.
local function text_of(progress)
  return '@' .. digits(progress[1]) .. ' ' .. progress[2] .. ' ' .. #progress[3] .. '\n' .. progress[3] .. progress[4]
end

local function progress_of(text)
  local copies, number, length, at = string.match(text, '^@(%d+) (%d+) (%d+)\n()')
  if not copies then return nil end
  return {tonumber(copies), number, string.sub(text, at, at + length - 1), string.sub(text, at + length)}
end

-- topic, origin, QoS, most bytes of a session, most bytes of all, message, idempotency key | '', progress | '', 1 if later
-- publications of the topic wait for this one
-- -> number of copies, number of sessions, number of subscribers that match; then, if there are more, the progress with which the
-- next step continues. Without progress, and if later publications do not wait, a publication that needs several steps is added to
-- nobody: it continues when they wait
local function append(keys, args)
  local name, tag = only_channel(keys)
  local store = store_keys(tag)
  local topic, message, woken, served = args[1], args[6], {}, {}
  local publication = {
    origin = args[2], qos = tonumber(whole(args[3], '1', 'QoS')), message = message, limits = limits_of(args[4], args[5]),
  }
  local once = args[7] ~= '' and named_key('once', tag, topic .. '\0' .. args[7])
  local known = once and redis.call('GET', once) or args[8] or ''
  -- Several callers with one key continue from the same progress, so each subscriber gets one copy. The first one that is at the end
  -- stores the number of copies for the others.
  if once and known ~= '' and not progress_of(known) then
    return {known, digits(redis.call('ZCARD', store.until_key)), ''}
  end
  local filters, count = matching(store, topic)
  publication.filters = filters
  local room = math.max(STEP_LEAST, math.min(STEP_SUBSCRIBERS, math.floor(STEP_BYTES / math.max(#message, 1))))
  local progress, is_ordered = progress_of(known), args[9] == '1' or (args[8] or '') ~= ''
  if not progress and count > room then progress = {0, digits(next_turn(store)), '', ''} end
  if progress and not is_ordered then
    local start = text_of(progress)
    if once then redis.call('SET', once, start, 'PX', REMEMBERED) end
    return {digits(progress[1]), digits(redis.call('ZCARD', store.until_key)), digits(count), start}
  end
  local copies = progress and progress[1] or 0
  local served_key = progress and named_key('served', tag, progress[2])
  local function is_served(subscriber)
    if served_key then return redis.call('SADD', served_key, subscriber) == 0 end
    local found = served[subscriber]
    served[subscriber] = true
    return found
  end
  local rest
  for _, filter in ipairs(filters) do
    if not progress or filter >= progress[3] then
      local from = progress and filter == progress[3] and '(' .. progress[4] or '-'
      local page = redis.call('ZRANGEBYLEX', named_key('subscribers', tag, filter), from, '+', 'LIMIT', 0, room)
      for _, subscriber in ipairs(page) do
        if not is_served(subscriber) then
          local kind, key = string.sub(subscriber, 1, 1), string.sub(subscriber, 2)
          copies = copies + APPEND[kind](store, key, publication, woken)
        end
      end
      room = room - #page
      if progress and room <= 0 then
        rest = text_of({copies, progress[2], filter, page[#page]})
        break
      end
    end
  end
  wake(name, store, woken)
  write_total(store)
  if once then redis.call('SET', once, rest or digits(copies), 'PX', REMEMBERED) end
  if served_key and rest then redis.call('PEXPIRE', served_key, REMEMBERED) end
  if served_key and not rest then redis.call('UNLINK', served_key) end
  return {digits(copies), digits(redis.call('ZCARD', store.until_key)), digits(count), rest}
end
