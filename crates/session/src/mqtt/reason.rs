//! Reason codes of the server's errors.

use tidings_hub::CloseReason;
use tidings_mqtt::ReasonCode;
use tidings_wire::code::{self, Code};

/// The session was taken over: the code of [`CloseReason::Code`] for a connection that ends in favour of a newer one.
pub(super) const TAKEN_OVER: Code = code::SESSION_TAKEN_OVER;

/// For `CONNACK`.
pub(super) fn of_connect(code: Code) -> ReasonCode {
    match code {
        Code { number, .. } if number == code::UNAUTHORIZED.number => ReasonCode::BadUserNameOrPassword,
        Code { number, .. } if number == code::TOO_MANY_REQUESTS.number => ReasonCode::ServerBusy,
        Code { number, .. } if number == code::LIMIT_EXCEEDED.number => ReasonCode::QuotaExceeded,
        Code { temporary: true, .. } => ReasonCode::ServerUnavailable,
        _ => ReasonCode::NotAuthorized,
    }
}

/// For `PUBACK` and `PUBREC`.
pub(super) fn of_publish(code: Code) -> ReasonCode {
    match code.number {
        number if number == code::PERMISSION_DENIED.number || number == code::UNAUTHORIZED.number => {
            ReasonCode::NotAuthorized
        }
        number if number == code::UNKNOWN_CHANNEL.number => ReasonCode::TopicNameInvalid,
        number if number == code::TOO_MANY_REQUESTS.number || number == code::LIMIT_EXCEEDED.number => {
            ReasonCode::QuotaExceeded
        }
        number if number == code::BAD_REQUEST.number => ReasonCode::ImplementationSpecificError,
        _ => ReasonCode::UnspecifiedError,
    }
}

/// For `SUBACK`.
pub(super) fn of_subscribe(code: Code) -> ReasonCode {
    match of_publish(code) {
        ReasonCode::TopicNameInvalid => ReasonCode::TopicFilterInvalid,
        other => other,
    }
}

/// For `DISCONNECT`, when the retained messages of a subscription cannot be read.
pub(super) fn of_retained(code: Code) -> ReasonCode {
    if code.temporary { ReasonCode::ServerBusy } else { ReasonCode::QuotaExceeded }
}

/// A reason of `DISCONNECT` for a client that is not connected yet.
pub(super) fn in_connack(reason: ReasonCode) -> ReasonCode {
    match reason {
        ReasonCode::ServerShuttingDown => ReasonCode::ServerUnavailable,
        ReasonCode::AdministrativeAction | ReasonCode::SessionTakenOver => ReasonCode::NotAuthorized,
        other => other,
    }
}

/// For `DISCONNECT` of the server; `None` where none is sent.
pub(super) fn of_close(reason: &CloseReason) -> Option<ReasonCode> {
    Some(match reason {
        CloseReason::Done | CloseReason::Transport(..) => return None,
        CloseReason::Slow(_) => ReasonCode::QuotaExceeded,
        CloseReason::Shutdown(_) => ReasonCode::ServerShuttingDown,
        CloseReason::NoPong => ReasonCode::KeepAliveTimeout,
        CloseReason::Overloaded => ReasonCode::ServerBusy,
        CloseReason::Stale | CloseReason::Protocol(_) => ReasonCode::ProtocolError,
        CloseReason::Expired => ReasonCode::NotAuthorized,
        CloseReason::Code(number, _) => match *number {
            number if number == TAKEN_OVER.number => ReasonCode::SessionTakenOver,
            number if number == code::FORCE_RECONNECT.number => ReasonCode::UseAnotherServer,
            // Messages were lost.
            number if number == code::POSITION_LOST.number => ReasonCode::ImplementationSpecificError,
            number if number == code::OVERLOADED.number => ReasonCode::ServerBusy,
            number if number == code::CONNECTION_LIMIT.number => ReasonCode::QuotaExceeded,
            _ => ReasonCode::AdministrativeAction,
        },
    })
}
