//! The messages of requests.
//!
//! An empty field is absent, because Protobuf does not distinguish the two.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::Message as _;
use tidings_grpc::messages::proxy;

use crate::HookKind;
use crate::hook::HookBody;
use crate::request::HookRequest;
use crate::values::ValuesRequest;

impl HookBody for HookRequest<'_> {
    fn message(&self, kind: HookKind) -> Vec<u8> {
        let [client, transport, protocol, encoding] =
            [self.client, self.transport, self.protocol, self.encoding].map(str::to_owned);
        let user = self.user.unwrap_or_default().to_owned();
        let channel = self.channel.unwrap_or_default().to_owned();
        let bytes = self.data.bytes.unwrap_or_default();
        let (data, b64data) = if self.data.is_encoded {
            (Bytes::new(), STANDARD.encode(bytes))
        } else {
            (Bytes::copy_from_slice(bytes), String::new())
        };
        let meta = self.meta.map(|meta| Bytes::copy_from_slice(meta.get().as_bytes())).unwrap_or_default();
        let labels = self.labels.to_map();
        match kind {
            HookKind::Connect => {
                let (name, version) = (self.name.to_owned(), self.version.to_owned());
                proxy::ConnectRequest { client, transport, protocol, encoding, data, b64data, name, version }
                    .encode_to_vec()
            }
            HookKind::Subscribe | HookKind::SubscribeStream => proxy::SubscribeRequest {
                client,
                transport,
                protocol,
                encoding,
                user,
                channel,
                meta,
                data,
                b64data,
                labels,
            }
            .encode_to_vec(),
            HookKind::Publish => proxy::PublishRequest {
                client,
                transport,
                protocol,
                encoding,
                user,
                channel,
                data,
                b64data,
                meta,
                labels,
            }
            .encode_to_vec(),
            HookKind::Rpc => {
                let method = self.method.to_owned();
                proxy::RpcRequest {
                    client,
                    transport,
                    protocol,
                    encoding,
                    user,
                    method,
                    data,
                    b64data,
                    meta,
                    labels,
                }
                .encode_to_vec()
            }
            HookKind::Refresh => {
                proxy::RefreshRequest { client, transport, protocol, encoding, user, meta, labels }
                    .encode_to_vec()
            }
            HookKind::SubRefresh => proxy::SubRefreshRequest {
                client,
                transport,
                protocol,
                encoding,
                user,
                channel,
                meta,
                labels,
            }
            .encode_to_vec(),
            // Its request is a `ValuesRequest`.
            HookKind::SharedPollRefresh => Vec::new(),
        }
    }
}

impl HookBody for ValuesRequest<'_> {
    fn message(&self, _: HookKind) -> Vec<u8> {
        let item = |key: &str, version: Option<u64>| proxy::SharedPollRefreshItem {
            key: key.to_owned(),
            version: version.unwrap_or_default(),
        };
        let items = self.items.iter().map(|requested| item(requested.key, requested.version));
        proxy::SharedPollRefreshRequest { channel: self.channel.to_owned(), items: items.collect() }
            .encode_to_vec()
    }
}

#[cfg(test)]
mod tests {
    use tidings_hub::Requester;

    use super::*;
    use crate::request::{HookEvent, RequestEncoding};

    #[test]
    fn the_data_of_a_client_is_bytes_or_base64() {
        let sent = |binary| {
            let format = RequestEncoding { binary, include_meta: false };
            let requester = Requester { user: "42".into(), ..Requester::default() };
            let request = HookRequest::new(&requester, HookEvent::Rpc("m"), Some(b"\xff"), format);
            proxy::RpcRequest::decode(request.message(HookKind::Rpc).as_slice()).expect("a message")
        };
        let (plain, encoded) = (sent(false), sent(true));
        assert_eq!((&plain.data[..], &*plain.b64data, &*plain.encoding), (&b"\xff"[..], "", "json"));
        assert_eq!((&encoded.data[..], &*encoded.b64data, &*encoded.encoding), (&b""[..], "/w==", "binary"));
        assert_eq!((&*plain.user, &*plain.method), ("42", "m"));
    }
}
