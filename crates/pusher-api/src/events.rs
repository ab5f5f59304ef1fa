//! Events for channels, one at a time or in batches.

use std::sync::atomic::Ordering;

use axum::body::Bytes;
use axum::response::Response;
use serde_json::{Map, Value, json};
use tidings_pusher::{App, Event, EventBatch, EventRequest, SocketId};
use tidings_wire::Channel;

use crate::Api;
use crate::channels::Info;
use crate::respond::{ApiError, ApiResult, json};

impl Api {
    /// `POST /apps/{id}/events`.
    pub(crate) async fn event(&self, app: &App, body: &[u8]) -> ApiResult<Response> {
        let event = EventRequest::parse(body, app.limits.event_size)?;
        let info = event_info(&event)?;
        self.publish(app, &event).await?;
        if info.is_empty() {
            return Ok(json(&json!({})));
        }
        let mut channels = Map::new();
        for name in &event.channels {
            channels.insert(name.clone(), self.describe(app, name, info).await?);
        }
        Ok(json(&json!({"channels": channels})))
    }

    /// `POST /apps/{id}/batch_events`.
    pub(crate) async fn batch(&self, app: &App, body: &[u8]) -> ApiResult<Response> {
        let batch = EventBatch::parse(body, app.limits.event_size)?;
        let infos = batch.iter().map(event_info).collect::<ApiResult<Vec<Info>>>()?;
        for event in &batch {
            self.publish(app, event).await?;
        }
        if infos.iter().all(|info| info.is_empty()) {
            return Ok(json(&json!({})));
        }
        let mut results = Vec::new();
        for (event, info) in batch.iter().zip(infos) {
            let name = event.channels.first().map(String::as_str).unwrap_or_default();
            results.push(if info.is_empty() { json!({}) } else { self.describe(app, name, info).await? });
        }
        Ok(json(&json!({"batch": Value::Array(results)})))
    }

    /// Publishes an event in its channels, in their order.
    async fn publish(&self, app: &App, event: &Event) -> ApiResult<()> {
        let data = Bytes::copy_from_slice(event.data.as_bytes());
        for name in &event.channels {
            let channel =
                Channel::new(app.channel(name)).map_err(|error| ApiError::new(400, error.to_string()))?;
            let except = event.except.map(SocketId::client);
            self.backend.publish(channel, event.name.clone(), data.clone(), except).await?;
            app.counters.api_events.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The information that an event requests, for all of its channels.
fn event_info(event: &Event) -> ApiResult<Info> {
    let info = Info::parse(&event.info)?;
    for name in &event.channels {
        info.check(name)?;
    }
    Ok(info)
}
