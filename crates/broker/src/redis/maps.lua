-- Channels that are maps. The changes of a map are the history of its channel: they have the keys `meta` and `stream`, offsets
-- and the epoch of that history, and nodes track and fetch them as any other publication. The state has keys of its own:
--
--   tidings:map:TAG          hash: p the options of the last change, b bytes of the values
--   tidings:mapvalues:TAG    hash: key -> value, see `parsed_value`
--   tidings:mapindex:TAG     sorted set of the keys in the order of pages; in an ordered map each behind its rank
--   tidings:mapdeadlines:TAG sorted set: key, by the millisecond of its expiry; keys without expiry are not in it
--
-- A rank is the order of a score as 16 hexadecimal digits, the highest score first, so that no score is rounded.
-- A map whose history has ended, because it was restored from older data or evicted, keeps its state in the next epoch.
-- A key that has expired is removed by the next call of any node. A map whose keys expire has an expiry itself, behind that of
-- the last key, so that Redis removes the map when all nodes have ended.

-- Memory of a value besides its texts, as in `tidings-map-state`.
local VALUE_OVERHEAD = 320
-- Most commands that read members of the index for one page.
local STEPS_OF_PAGE = 50
-- Most keys that are removed in one call because they have expired, and that are read or moved in one command.
local KEYS_AT_ONCE = 200
-- How often a call removes that many expired keys before it refuses a value that has no room.
local REMOVALS_FOR_ROOM = 10

-- The options of a map: ordered (1 or 0), lifetime of keys in ms | 0 for no end, most changes of the stream, their lifetime,
-- lifetime of the position, each after a space.
local function set_options(map, text)
  map.options = text
  local ordered, key_ttl, size, ttl, meta_ttl = string.match(text, '^([01]) (%d+) (%d+) (%d+) (%d+)$')
  if not ordered then error({err = 'ERR tidings: invalid options of a map'}) end
  map.is_ordered, map.key_ttl, map.size, map.ttl, map.meta_ttl = ordered == '1', tonumber(key_ttl), size, ttl, meta_ttl
end

-- The map of a channel as it is before the call.
local function open_map(keys)
  local name, tag = only_channel(keys)
  local map = {name = name, tag = tag, time = now()}
  for _, part in ipairs({'meta', 'stream', 'map', 'mapvalues', 'mapindex', 'mapdeadlines'}) do
    map[part] = 'tidings:' .. part .. ':' .. tag
  end
  together(map.meta, map.stream, map.map, map.mapvalues, map.mapindex, map.mapdeadlines)
  local meta = redis.call('HMGET', map.meta, 'e', 'o', 'n')
  map.epoch, map.offset, map.node = meta[1], meta[1] and meta[2] or '0', meta[3]
  local state = redis.call('HMGET', map.map, 'p', 'b')
  map.is_stored, map.bytes = state[1], tonumber(state[2] or '0')
  if state[1] then set_options(map, state[1]) end
  return map
end

-- A value: offset, rank, version | '', size (bytes of the publication), lengths of the next three texts, line feed, the
-- version's epoch, the extras of the publishing client, those of the tags, the body.
local function parsed_value(value)
  local offset, rank, version, size, epoch, info, tags, at =
    string.match(value, '^(%d+) (%x+) (%d*) (%d+) (%d+) (%d+) (%d+)\n()')
  local held = {rank = rank, version = version, size = tonumber(size)}
  held.version_epoch, at = string.sub(value, at, at + epoch - 1), at + epoch
  held.info, at = string.sub(value, at, at + info - 1), at + info
  held.tags, at = string.sub(value, at, at + tags - 1), at + tags
  held.body = string.sub(value, at)
  return held
end

local function cost(key, held) return held.size + 3 * #key + #held.version_epoch + VALUE_OVERHEAD end

-- The member of the index for a key.
local function member(map, rank, key) return (map.is_ordered and rank or '') .. key end

local function netstring(text) return #text .. ':' .. text end

-- Before the first change of a call: begins the history, or takes it over from another primary.
local function begin_changes(map)
  map.is_changed = true
  if not map.epoch then
    map.epoch, map.offset = begin(map.tag), '0'
  elseif SHARDED and map.node ~= myself() then
    take_over(map.meta, map.offset)
  end
  -- Publications from before the channel was a map have no keys.
  if not map.is_stored then redis.call('DEL', map.stream) end
end

-- Adds a change to the stream and publishes it. The body of the publication is `shown`.
local function push_change(map, extras, shown)
  if not map.is_changed then begin_changes(map) end
  map.offset = digits(map.offset + 1)
  redis.call('XADD', map.stream, 'MAXLEN', map.size, map.offset, 'b', shown, 'x', extras)
  redis.call('PEXPIRE', map.stream, map.ttl)
  redis.call('HSET', map.meta, 'o', map.offset)
  send(map.name, map.tag, map.offset, map.epoch, extras, shown, SHARDED)
end

-- Removes a key with this value; tags of '' are those of the value.
local function remove_key(map, key, held, info, tags)
  redis.call('HDEL', map.mapvalues, key)
  redis.call('ZREM', map.mapindex, member(map, held.rank, key))
  redis.call('ZREM', map.mapdeadlines, key)
  map.bytes = map.bytes - cost(key, held)
  local extras = info .. (tags == '' and held.tags or tags) .. 'r' .. netstring(key)
  push_change(map, extras, '')
  return extras
end

-- Removes keys that have expired; returns their number.
local function expire_keys(map, count)
  local gone = redis.call('ZRANGEBYSCORE', map.mapdeadlines, '-inf', digits(map.time), 'LIMIT', 0, count)
  local removed = 0
  for _, key in ipairs(gone) do
    local value = redis.call('HGET', map.mapvalues, key)
    if value then
      remove_key(map, key, parsed_value(value), '', '')
      removed = removed + 1
    else
      redis.call('ZREM', map.mapdeadlines, key)
    end
  end
  return removed
end

-- Time in ms until the next key expires; -1 if none does.
local function next_expiry(map)
  local first = redis.call('ZRANGE', map.mapdeadlines, 0, 0, 'WITHSCORES')
  return first[2] and math.max(first[2] - map.time, 0) or -1
end

-- Stores what a map has besides its values after changes, and sets the expiry of its keys in Redis, or renews it where more
-- than half has passed.
local function finish(map)
  redis.call('HSET', map.map, 'p', map.options, 'b', digits(map.bytes))
  if redis.call('EXISTS', map.mapvalues) == 0 then
    redis.call('PEXPIRE', map.map, map.meta_ttl)
    redis.call('PEXPIRE', map.meta, map.meta_ttl)
    return
  end
  local parts = {map.meta, map.map, map.mapvalues, map.mapindex, map.mapdeadlines}
  -- A key without expiry can be one of earlier options.
  if redis.call('HLEN', map.mapvalues) > redis.call('ZCARD', map.mapdeadlines) then
    for _, part in ipairs(parts) do redis.call('PERSIST', part) end
    return
  end
  local left = redis.call('PTTL', map.mapdeadlines)
  local is_begun = not map.is_reordered and redis.call('PTTL', map.meta) >= left and redis.call('PTTL', map.map) >= left
  local latest = redis.call('ZRANGE', map.mapdeadlines, -1, -1, 'WITHSCORES')[2]
  local longest = math.max(latest and latest - map.time or 0, map.key_ttl)
  if not is_begun or left < longest + map.meta_ttl / 2 then
    for _, part in ipairs(parts) do redis.call('PEXPIRE', part, digits(longest + map.meta_ttl)) end
  end
end

-- Orders the index by rank and key, or by key alone.
local function reorder(map, is_ordered)
  local members, was_ordered = redis.call('ZRANGE', map.mapindex, 0, -1), map.is_ordered
  redis.call('DEL', map.mapindex)
  map.is_ordered, map.is_reordered = is_ordered, true
  for from = 1, #members, KEYS_AT_ONCE do
    local keys, add = {}, {}
    for at = from, math.min(from + KEYS_AT_ONCE - 1, #members) do
      keys[#keys + 1] = was_ordered and string.sub(members[at], 17) or members[at]
    end
    for at, value in ipairs(redis.call('HMGET', map.mapvalues, unpack(keys))) do
      if value then
        add[#add + 1] = '0'
        add[#add + 1] = member(map, parsed_value(value).rank, keys[at])
      end
    end
    if #add > 0 then redis.call('ZADD', map.mapindex, unpack(add)) end
  end
end

-- Takes over other options.
local function use_options(map, text)
  local was_ordered = map.is_ordered
  if map.options == text then return end
  set_options(map, text)
  if was_ordered ~= nil and was_ordered ~= map.is_ordered then
    map.is_ordered = was_ordered
    reorder(map, not was_ordered)
  end
end

-- options, most keys, most bytes, idempotency key | '', key, info extras, tag extras, mode: remove, always, new, exists or
-- changed [, body, rank, version | '', version's epoch, size [, body of the publication]]
-- -> outcome, offset, epoch, extras of the publication, time until the next expiry, number of keys that had expired. The outcome:
-- changed; key_exists, key_not_found, version or idempotency (nothing was changed); keys or bytes (a bound)
local function map_change(keys, args)
  local map = open_map(keys)
  local most_keys, most_bytes, id = tonumber(args[2]), tonumber(args[3]), args[4]
  local key, info, tags, mode = args[5], args[6], args[7], args[8]
  local once = id ~= '' and 'tidings:once:' .. #map.tag .. ':' .. map.tag .. ':' .. id
  if once then
    together(map.meta, once)
    local first = redis.call('GET', once)
    if first then
      local offset, epoch = string.match(first, '^%d+ (%d+) (%w*)$')
      return {'idempotency', offset, epoch, '', next_expiry(map), 0}
    end
    permitted('SET', once, '')
  end
  permitted('XADD', map.stream, '1', 'b', '')
  permitted('HSET', map.mapvalues, 'k', 'v')
  permitted(SHARDED and 'SPUBLISH' or 'PUBLISH', (SHARDED and map.tag or map.name) .. '\31tidings', '')
  if map.is_stored and redis.call('EXISTS', map.mapvalues) == 0 then
    -- The map is empty, or Redis has evicted the values.
    redis.call('DEL', map.mapindex, map.mapdeadlines)
    map.bytes = 0
  end
  use_options(map, args[1])
  local expired = expire_keys(map, KEYS_AT_ONCE)
  local value = redis.call('HGET', map.mapvalues, key)
  local deadline = value and redis.call('ZSCORE', map.mapdeadlines, key)
  if deadline and tonumber(deadline) <= map.time then
    remove_key(map, key, parsed_value(value), '', '')
    expired, value = expired + 1, false
  end
  local held = value and parsed_value(value)
  local until_ms = map.key_ttl > 0 and digits(map.time + map.key_ttl)
  local function set_deadline()
    if until_ms then
      redis.call('ZADD', map.mapdeadlines, until_ms, key)
    elseif deadline then
      redis.call('ZREM', map.mapdeadlines, key)
    end
  end
  local function outcome(what, extras)
    if map.is_changed or map.is_reordered then finish(map) end
    return {what, map.offset, map.epoch or next_epoch(map.tag), extras or '', next_expiry(map), expired}
  end
  local extras
  if mode == 'remove' then
    if not held then return outcome('key_not_found') end
    extras = remove_key(map, key, held, info, tags)
  else
    local body, rank, version, version_epoch, size = args[9], args[10], args[11], args[12], tonumber(args[13])
    local shown = args[14] or body
    if held and mode == 'changed' and held.body == body and held.info == info then
      set_deadline()
      map.is_changed = true
      return outcome('key_exists')
    end
    if held and mode == 'new' then return outcome('key_exists') end
    if not held and mode == 'exists' then return outcome('key_not_found') end
    if held and held.version ~= '' and version ~= '' and held.version_epoch == version_epoch then
      -- As texts, because a number of Lua has 53 bits.
      local old = held.version
      local is_newer = #version > #old or #version == #old and version > old
      if not is_newer then return outcome('version') end
    end
    local added = cost(key, {size = size, version_epoch = version_epoch}) - (held and cost(key, held) or 0)
    local function refusal()
      if not held and redis.call('HLEN', map.mapvalues) >= most_keys then return 'keys' end
      return map.bytes + added > most_bytes and 'bytes'
    end
    local removals = 0
    while refusal() do
      local removed = removals < REMOVALS_FOR_ROOM and expire_keys(map, KEYS_AT_ONCE) or 0
      if removed == 0 then return outcome(refusal()) end
      expired, removals = expired + removed, removals + 1
    end
    map.bytes = map.bytes + added
    extras = info .. tags .. 'k' .. netstring(key)
    if until_ms then extras = extras .. 'l' .. netstring(digits(map.key_ttl)) end
    push_change(map, extras, shown)
    local head = {map.offset, rank, version, args[13], #version_epoch, #info, #tags}
    redis.call('HSET', map.mapvalues, key, table.concat(head, ' ') .. '\n' .. version_epoch .. info .. tags .. body)
    if held and held.rank ~= rank then redis.call('ZREM', map.mapindex, member(map, held.rank, key)) end
    redis.call('ZADD', map.mapindex, 0, member(map, rank, key))
    set_deadline()
  end
  if once then redis.call('SET', once, '0 ' .. map.offset .. ' ' .. map.epoch, 'PX', 300000) end
  return outcome('changed', extras)
end

-- -> number of keys that had expired, time until the next expiry
local function map_expire(keys)
  local map = open_map(keys)
  if not map.options then return {0, -1} end
  local expired = expire_keys(map, KEYS_AT_ONCE)
  if map.is_changed then finish(map) end
  return {expired, next_expiry(map)}
end

-- 1 or 0: orders the index of a map by score, or by key alone
local function map_order(keys, args)
  local map = open_map(keys)
  if not map.options then return 0 end
  use_options(map, args[1] .. string.sub(map.options, 2))
  if map.is_reordered then finish(map) end
  return 1
end

-- 1 if ordered, else 0; member of the index after which to read | ''; asc | ''; count; bytes; '' or the only key
-- -> epoch, offset, time until the next expiry, member of the index after which the next page begins | '' after the last page,
-- then key and value of each. A page may have no key and be followed by another one, if many keys have expired. An empty answer
-- if the index has another order, which a function that only reads cannot change.
local function map_state(keys, args)
  local map = open_map(keys)
  local page = {map.epoch or next_epoch(map.tag), map.offset, next_expiry(map), ''}
  if not map.options then return page end
  if map.is_ordered ~= (args[1] == '1') then return {} end
  local function has_ended(deadline) return deadline and tonumber(deadline) <= map.time end
  if args[6] ~= '' then
    local value = redis.call('HGET', map.mapvalues, args[6])
    if value and not has_ended(redis.call('ZSCORE', map.mapdeadlines, args[6])) then page[5], page[6] = args[6], value end
    return page
  end
  local after, is_reverse = args[2], args[3] == 'asc' and map.is_ordered
  local left, budget, bytes = tonumber(args[4]), tonumber(args[5]), 0
  local order, first, last = 'ZRANGEBYLEX', '-', '+'
  if is_reverse then order, first, last = 'ZREVRANGEBYLEX', '+', '-' end
  if after ~= '' then first = '(' .. after end
  if left == 0 then return page end
  for _ = 1, STEPS_OF_PAGE do
    -- One more than the page has, which shows that more keys follow.
    local members = redis.call(order, map.mapindex, first, last, 'LIMIT', 0, digits(math.min(left + 1, KEYS_AT_ONCE)))
    if #members == 0 then return page end
    local found = {}
    for at, text in ipairs(members) do found[at] = map.is_ordered and string.sub(text, 17) or text end
    local deadlines = redis.call('ZMSCORE', map.mapdeadlines, unpack(found))
    for at, value in ipairs(redis.call('HMGET', map.mapvalues, unpack(found))) do
      if value and not has_ended(deadlines[at]) then
        local size = string.match(value, '^%d+ %x+ %d* (%d+)')
        bytes = bytes + size + OVERHEAD
        if left == 0 or bytes > budget and #page > 4 then
          page[4] = after
          return page
        end
        left = left - 1
        page[#page + 1], page[#page + 2] = found[at], value
      end
      after = members[at]
    end
    first = '(' .. after
  end
  page[4] = after
  return page
end

-- -> number of keys
local function map_count(keys)
  local map = open_map(keys)
  return redis.call('HLEN', map.mapvalues) - redis.call('ZCOUNT', map.mapdeadlines, '-inf', digits(map.time))
end

-- Removes a map; its subscribers are notified that the epoch has ended.
local function map_clear(keys)
  local map = open_map(keys)
  local removed = redis.call('UNLINK', map.meta, map.stream, map.map, map.mapvalues, map.mapindex, map.mapdeadlines)
  if removed == 0 then return 0 end
  if next_epoch(map.tag) == map.epoch then use_epoch(map.tag) end
  announce(map.name, map.tag, 'E', next_epoch(map.tag))
  return 1
end

register('map_change', map_change)
-- The same for removals, which are possible when Redis is full.
register('map_remove', map_change, 'allow-oom')
register('map_expire', map_expire, 'allow-oom')
register('map_order', map_order)
register('map_state', map_state, 'no-writes')
register('map_count', map_count, 'no-writes')
register('map_clear', map_clear, 'allow-oom')
