//! The calls of the API over gRPC, by their status.

use std::fmt;

use axum::response::Response;
use tidings_grpc::{Code, Status};
use tidings_metrics::{Collect, KeyedCounters, MetricWriter, labels};

labels! {
    /// The status of a call. A call whose command failed has the status OK: its error is in the message.
    enum CallStatus {
        Ok => "OK",
        InvalidArgument => "INVALID_ARGUMENT",
        DeadlineExceeded => "DEADLINE_EXCEEDED",
        PermissionDenied => "PERMISSION_DENIED",
        ResourceExhausted => "RESOURCE_EXHAUSTED",
        Unimplemented => "UNIMPLEMENTED",
        Unavailable => "UNAVAILABLE",
        Unauthenticated => "UNAUTHENTICATED",
        Other => "other",
    }
}

/// Counts calls.
#[derive(Debug, Default)]
pub struct CallCounters {
    calls: KeyedCounters<CallStatus>,
}

impl CallCounters {
    /// Counts a call by its response.
    pub fn count(&self, response: &Response) {
        let status = Status::read(response.headers()).map(|status| status.code);
        let is_success = response.status().is_success();
        self.calls.add(match status {
            None | Some(Code::Ok) if is_success => CallStatus::Ok,
            Some(Code::InvalidArgument) => CallStatus::InvalidArgument,
            Some(Code::DeadlineExceeded) => CallStatus::DeadlineExceeded,
            Some(Code::PermissionDenied) => CallStatus::PermissionDenied,
            Some(Code::ResourceExhausted) => CallStatus::ResourceExhausted,
            Some(Code::Unimplemented) => CallStatus::Unimplemented,
            Some(Code::Unavailable) => CallStatus::Unavailable,
            Some(Code::Unauthenticated) => CallStatus::Unauthenticated,
            _ => CallStatus::Other,
        });
    }
}

impl Collect for CallCounters {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.counters(
            "tidings_grpc_api_calls",
            "Calls of the server API over gRPC, by status; a command that failed has the status OK, and its error in the message",
            "status",
            self.calls.iter(),
        )
    }
}
