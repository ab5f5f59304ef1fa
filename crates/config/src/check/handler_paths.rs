//! The paths of handlers: each has its own.

use crate::error::ConfigError;
use crate::given::GivenOptions;
use crate::options::Config;

/// The paths that exist without any option, besides those that no option can name.
const FIXED: [&str; 9] = [
    "/api",
    "/connection/address",
    "/connection/http_stream",
    "/connection/sse",
    "/connection/uni_http_stream",
    "/connection/uni_sse",
    "/connection/uni_websocket",
    "/connection/websocket",
    "/emulation",
];

/// Rejects a path of a handler that another handler has.
pub(super) fn check(config: &Config, given: &GivenOptions, errors: &mut Vec<ConfigError>) {
    let api = config.http_api.handler_prefix.as_str();
    let all = [
        ("http_api", "/api", api),
        ("websocket", "/connection/websocket", config.websocket.handler_prefix.as_str()),
        ("sse", "/connection/sse", config.sse.handler_prefix.as_str()),
        ("http_stream", "/connection/http_stream", config.http_stream.handler_prefix.as_str()),
        ("emulation", "/emulation", config.emulation.handler_prefix.as_str()),
        ("uni_websocket", "/connection/uni_websocket", config.uni_websocket.handler_prefix.as_str()),
        ("uni_sse", "/connection/uni_sse", config.uni_sse.handler_prefix.as_str()),
        ("uni_http_stream", "/connection/uni_http_stream", config.uni_http_stream.handler_prefix.as_str()),
    ];
    let is_method = |path: &str| {
        ["/api", api].iter().any(|api| path.strip_prefix(api).is_some_and(|rest| rest.starts_with('/')))
    };
    for (i, (group, default, path)) in all.iter().enumerate() {
        let is_twice = all[..i].iter().any(|(_, _, other)| other == path);
        if path != default && (FIXED.contains(path) || is_twice || is_method(path)) {
            let option = format!("{group}.handler_prefix");
            let what = format!("{option}: another handler has the path {path}");
            errors.push(given.error(&option, what));
        }
    }
}
