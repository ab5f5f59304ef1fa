//! The methods of the server API about maps.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tidings_api::map::{MapChanged, MapEntryJson, MapPublish, MapReadState, MapReadStream, MapRemove};
use tidings_api::{ApiError, Command, CommandReply, CommandResult, RawJson};
use tidings_broker::{BrokerError, MAX_IDEMPOTENCY_KEY};
use tidings_hub::{MapKind, NamespaceOptions};
use tidings_map_state::{KeyChange, SetKey, StateQuery, Version};
use tidings_wire::client::Encoding;
use tidings_wire::{Channel, HistoryQuery, Position, code};
use tokio::sync::oneshot;

use crate::Maps;

/// Runs a command about a map. `check` checks the name of its channel and returns the channel with its options; replies
/// have at most `max_bytes`.
///
/// # Errors
/// Those of the commands; [`code::METHOD_NOT_FOUND`] for a command about something else.
pub async fn run(
    maps: &Maps,
    command: Command,
    check: impl Fn(&str) -> Result<(Channel, NamespaceOptions), ApiError>,
    max_bytes: usize,
) -> CommandReply {
    let check = |name: &str| {
        let (channel, options) = check(name)?;
        if options.map.is_none() {
            let text = "not available: the channel is not a map (subscription_type)";
            return Err(ApiError { code: code::NOT_AVAILABLE.number, message: text.into() });
        }
        Ok((channel, options))
    };
    let check_keys = |name: &str| {
        let (channel, options) = check(name)?;
        match options.map.as_ref().map(|map| map.kind) {
            Some(kind @ (MapKind::Clients | MapKind::Users)) => {
                let text = format!("not available: the server maintains the keys of {}", kind.name());
                Err(ApiError { code: code::NOT_AVAILABLE.number, message: text.into() })
            }
            _ => Ok((channel, options)),
        }
    };
    match command {
        Command::MapPublish(request) => {
            let (channel, options) = check_keys(&request.channel)?;
            publish(maps, &channel, &options, request).await
        }
        Command::MapRemove(request) => {
            let (channel, options) = check_keys(&request.channel)?;
            let MapRemove { key, tags, idempotency_key, .. } = request;
            let change =
                KeyChange { key: key.into(), set: None, tags: tags.into_iter().collect(), info: None };
            self::change(maps, &channel, &options, change, idempotency_key).await
        }
        Command::MapReadState(request) => {
            let (channel, options) = check(&request.channel)?;
            read_state(maps, &channel, &options, request, max_bytes).await
        }
        Command::MapReadStream(request) => {
            let (channel, options) = check(&request.channel)?;
            read_stream(maps, &channel, &options, request, max_bytes).await
        }
        Command::MapStats(request) => {
            let (channel, _) = check(&request.channel)?;
            let num_keys = wait(|done| maps.0.map_key_count(&channel, Box::new(done))).await?;
            Ok(CommandResult::MapStats { num_keys })
        }
        Command::MapClear(request) => {
            let (channel, _) = check_keys(&request.channel)?;
            wait(|done| maps.0.map_clear(&channel, Box::new(done))).await?;
            Ok(CommandResult::Done {})
        }
        _ => Err(code::METHOD_NOT_FOUND.into()),
    }
}

/// Waits for the callback of an operation.
async fn wait<T: Send + 'static>(
    start: impl FnOnce(Box<dyn FnOnce(Result<T, BrokerError>) + Send>),
) -> Result<T, BrokerError> {
    let (done, outcome) = oneshot::channel();
    start(Box::new(move |result| drop(done.send(result))));
    outcome.await.unwrap_or(Err(BrokerError::Unavailable))
}

/// The bytes of a field in base64 with this name, or without it those of the field in JSON.
fn bytes(json: Option<RawJson>, base64: &str, name: &str) -> Result<Option<Bytes>, ApiError> {
    if base64.is_empty() {
        return Ok(json.map(|json| Box::<str>::from(json).into_string().into()));
    }
    let bytes = STANDARD.decode(base64).map_err(|e| ApiError::bad_request(format_args!("{name}: {e}")))?;
    Ok(Some(bytes.into()))
}

async fn publish(
    maps: &Maps,
    channel: &Channel,
    options: &NamespaceOptions,
    request: MapPublish,
) -> CommandReply {
    let empty = request.b64data.is_some().then(Bytes::new);
    let body = bytes(request.data, request.b64data.as_deref().unwrap_or_default(), "b64data")?.or(empty);
    let body = body.ok_or_else(|| ApiError::bad_request("data is required"))?;
    let stream_body = bytes(request.stream_data, &request.b64stream_data, "b64stream_data")?;
    let version = (request.version > 0)
        .then(|| Version { number: request.version, epoch: request.version_epoch.as_str().into() });
    let (score, mode) = (request.score, request.key_mode.into());
    let set = Some(SetKey { body, stream_body, score, mode, version });
    let tags = request.tags.into_iter().collect();
    let change = KeyChange { key: request.key.into(), set, tags, info: None };
    self::change(maps, channel, options, change, request.idempotency_key).await
}

async fn change(
    maps: &Maps,
    channel: &Channel,
    options: &NamespaceOptions,
    change: KeyChange,
    idempotency_key: String,
) -> CommandReply {
    change.check().map_err(ApiError::bad_request)?;
    if idempotency_key.len() > MAX_IDEMPOTENCY_KEY {
        let reason = format!("idempotency_key is longer than {MAX_IDEMPOTENCY_KEY} bytes");
        return Err(ApiError::bad_request(reason));
    }
    let key = Some(idempotency_key).filter(|key| !key.is_empty());
    let applied = wait(|done| maps.change(channel, options, change, key, done)).await?;
    Ok(CommandResult::MapChanged(MapChanged::try_from(applied)?))
}

async fn read_state(
    maps: &Maps,
    channel: &Channel,
    options: &NamespaceOptions,
    request: MapReadState,
    max_bytes: usize,
) -> CommandReply {
    let MapReadState { cursor, limit, key, asc, revision_epoch, .. } = request;
    let query = StateQuery {
        cursor,
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
        asc,
        key: Some(key).filter(|key| !key.is_empty()),
        // A value in JSON has at most eight times its bytes, and the cursor is that of the last value of the page.
        max_bytes: max_bytes / 8,
    };
    let page = wait(|done| maps.state(channel, options, query, done)).await?;
    let Position { offset, epoch } = page.position;
    if !revision_epoch.is_empty() && revision_epoch != epoch.as_str() {
        return Err(code::UNRECOVERABLE_POSITION.into());
    }
    let format = options.publication_data_format;
    let entries = page.entries.iter().zip(&page.scores);
    Ok(CommandResult::MapEntries {
        entries: entries.map(|(entry, score)| MapEntryJson::new(entry, *score, format)).collect(),
        offset,
        epoch: epoch.as_str().to_owned(),
        cursor: page.cursor,
    })
}

async fn read_stream(
    maps: &Maps,
    channel: &Channel,
    options: &NamespaceOptions,
    request: MapReadStream,
    max_bytes: usize,
) -> CommandReply {
    let MapReadStream { since_offset, since_epoch, limit, reverse, .. } = request;
    let has_since = since_offset > 0 || !since_epoch.is_empty();
    let query = HistoryQuery {
        limit: usize::try_from(limit).ok(),
        since: has_since.then(|| Position { offset: since_offset, epoch: since_epoch.as_str().into() }),
        reverse,
        for_subscriber: false,
        max_bytes,
    };
    let history = wait(|done| maps.stream(channel, query, done)).await?;
    let publications = history.publications().ok_or(code::UNRECOVERABLE_POSITION)?;
    let format = options.publication_data_format;
    let all = publications.iter().map(|publication| &**publication);
    let count = Encoding::Json.publications_within(all, format, max_bytes);
    let Position { offset, epoch } = history.position();
    Ok(CommandResult::MapEntries {
        entries: publications.iter().take(count).map(|p| MapEntryJson::new(p, 0, format)).collect(),
        offset: *offset,
        epoch: epoch.as_str().to_owned(),
        cursor: String::new(),
    })
}
