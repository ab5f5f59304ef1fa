//! Publishes to a channel as a backend does, over the server API.
//!
//! ```sh
//! tidings serve --set http_api.key=secret &
//! API_KEY=secret cargo run -p tidings-client --example publish -- http://127.0.0.1:8000 scores "2:1" "2:2"
//! ```
//!
//! Each publication has an idempotency key. A request without a response may be sent again: the server publishes it
//! once.

use std::error::Error;

use tidings_client::api::IdempotencyKeys;
use tidings_client::{Api, Server};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let server = args.next().unwrap_or_else(|| "http://127.0.0.1:8000".to_owned());
    let channel = args.next().unwrap_or_else(|| "scores".to_owned());
    let bodies: Vec<String> = args.collect();
    run(server.parse()?, std::env::var("API_KEY").ok(), &channel, &bodies).await
}

/// Publishes `bodies` in their order, in one request.
pub(crate) async fn run(
    server: Server,
    key: Option<String>,
    channel: &str,
    bodies: &[String],
) -> Result<(), Box<dyn Error>> {
    let Server::Web(web) = server else { return Err("the address must be http://HOST:PORT".into()) };
    let mut api = Api::new(web, key);
    let mut names = IdempotencyKeys::default();
    let publications: Vec<_> =
        bodies.iter().map(|body| names.prepare(channel, body.clone().into_bytes())).collect();
    // One result for each publication: the server may refuse one and take the next.
    for (body, result) in bodies.iter().zip(api.publish(&publications).await?) {
        result.map_err(|refusal| format!("'{body}' was not published: {refusal}"))?;
    }
    Ok(())
}
