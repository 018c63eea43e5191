//! [`CallError`] and gRPC statuses, both ways.
//!
//! The whole error travels: its reason and fault as `ErrorInfo`, the field at fault as
//! `BadRequest`, the time of the next try as `RetryInfo`. Statuses that carry none of ours come
//! from the transport, a proxy or a library, and are read as well as they can be.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::time::Duration;

use quire_core::Fault;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::calls::{CallError, Reason};

/// Domain of the reasons in `ErrorInfo`.
pub const ERROR_DOMAIN: &str = "quire.v1";

const FAULT_KEY: &str = "fault";
/// A message travels twice in headers, once with three bytes for each of its own, and peers take
/// 16 KiB of headers.
const LONGEST_MESSAGE: usize = 2000;
/// When the one who refuses does not know better.
const RETRY_UNAVAILABLE: Duration = Duration::from_secs(1);
const RETRY_QUOTA: Duration = Duration::from_secs(2);

impl From<CallError> for Status {
    fn from(error: CallError) -> Self {
        let mut details = ErrorDetails::with_error_info(
            error.reason.as_str(),
            ERROR_DOMAIN,
            HashMap::from([(FAULT_KEY.to_owned(), error.fault.as_str().to_owned())]),
        );
        let message = shortened(error.message);
        if error.fault == Fault::Input {
            let field = error.field.clone().unwrap_or_default();
            details.add_bad_request_violation(field, &message);
        }
        let retry_after = match (error.fault, error.reason) {
            (_, Reason::Quota) => error.retry_after.or(Some(RETRY_QUOTA)),
            (Fault::Unavailable, _) => error.retry_after.or(Some(RETRY_UNAVAILABLE)),
            _ => None,
        };
        if retry_after.is_some() {
            details.set_retry_info(retry_after);
        }
        Self::with_error_details(code(error.fault, error.reason), message, details)
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let told = details
            .error_info()
            .filter(|info| info.domain == ERROR_DOMAIN)
            .map(|info| {
                let fault = info
                    .metadata
                    .get(FAULT_KEY)
                    .and_then(|word| Fault::parse(word));
                (Reason::parse(&info.reason), fault)
            });
        let Some((reason, fault)) = told else {
            return foreign(&status);
        };
        // A newer coordinator may give reasons that we do not know yet: its fault still decides.
        let reason = reason.unwrap_or_else(|| reason_of(fault.unwrap_or(Fault::Bug)));
        Self {
            fault: fault.unwrap_or_else(|| reason.fault()),
            reason,
            message: status.message().to_owned(),
            field: details
                .bad_request()
                .and_then(|bad| bad.field_violations.first())
                .map(|violation| violation.field.clone())
                .filter(|field| !field.is_empty()),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        }
    }
}

/// The code by fault, except where the reason has one of its own that every tool knows.
fn code(fault: Fault, reason: Reason) -> Code {
    match reason {
        Reason::IdentityUnknown => Code::Unauthenticated,
        Reason::RoleMissing | Reason::TenantForeign => Code::PermissionDenied,
        Reason::JobUnknown => Code::NotFound,
        Reason::Quota | Reason::MessageTooLarge => Code::ResourceExhausted,
        _ => match fault {
            Fault::Input => Code::InvalidArgument,
            Fault::Config | Fault::Fenced => Code::FailedPrecondition,
            Fault::Unavailable => Code::Unavailable,
            Fault::Corrupt => Code::DataLoss,
            Fault::Bug => Code::Internal,
        },
    }
}

/// The plainest reason that has this fault.
fn reason_of(fault: Fault) -> Reason {
    match fault {
        Fault::Input => Reason::Malformed,
        Fault::Config => Reason::JobNotRunning,
        Fault::Unavailable => Reason::Unavailable,
        Fault::Fenced => Reason::LeaseFenced,
        Fault::Corrupt => Reason::Corrupt,
        Fault::Bug => Reason::Internal,
    }
}

/// A status that no coordinator of ours wrote.
fn foreign(status: &Status) -> CallError {
    let text = chain(status);
    if let Some(trouble) = tls_trouble(status.source(), &text) {
        return CallError::new(Reason::IdentityUnknown, trouble);
    }
    if text.contains("message length too large") {
        return CallError::new(Reason::MessageTooLarge, text);
    }
    // Made on this side: the connection broke, or never was.
    if status.source().is_some() {
        return CallError::new(Reason::Unavailable, text);
    }
    match status.code() {
        Code::Unauthenticated => CallError::new(Reason::IdentityUnknown, text),
        Code::PermissionDenied => CallError::new(Reason::RoleMissing, text),
        Code::InvalidArgument => CallError::new(Reason::Malformed, text),
        Code::DataLoss => CallError::new(Reason::Corrupt, text),
        Code::Unimplemented => CallError::new(
            Reason::VersionTooOld,
            format!("the coordinator does not know this call: {text}"),
        ),
        // Calls that a server ends early come back as canceled or unknown, and those that a
        // proxy or a full server refuses as exhausted: none of them was answered.
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Aborted
        | Code::ResourceExhausted
        | Code::Unknown => CallError::new(Reason::Unavailable, text),
        _ => CallError::new(Reason::Internal, text),
    }
}

/// What is wrong between the certificates, if that is why there is no connection.
///
/// The alert of a coordinator that refuses ours arrives after the handshake, through layers that
/// keep only its text.
fn tls_trouble(source: Option<&(dyn StdError + 'static)>, text: &str) -> Option<String> {
    let mut next = source;
    while let Some(error) = next {
        let inner = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        let tls = error
            .downcast_ref::<rustls::Error>()
            .or_else(|| inner.and_then(|inner| inner.downcast_ref()));
        if let Some(tls) = tls
            && let Some(trouble) = of_handshake(tls)
        {
            return Some(trouble);
        }
        next = error.source();
    }
    if text.contains("received fatal alert") {
        return Some(format!(
            "the coordinator refused the certificate that this side shows: {text}"
        ));
    }
    // The first bytes of a TLS server read as a frame of absurd length.
    if source.is_some() && text.contains("frame with invalid size") {
        return Some(format!(
            "what answers there does not speak plain HTTP/2; write https:// if it speaks TLS: {text}"
        ));
    }
    if text.contains("HTTP/2 was not negotiated") {
        return Some(format!("what answers there is no coordinator: {text}"));
    }
    None
}

fn of_handshake(error: &rustls::Error) -> Option<String> {
    use rustls::{AlertDescription as Alert, CertificateError, Error};
    match error {
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Some(format!(
            "the coordinator's certificate is for another name: {error}"
        )),
        Error::InvalidCertificate(_) => Some(format!(
            "the coordinator's certificate is not trusted: {error}"
        )),
        Error::InvalidMessage(_) => Some(format!(
            "the coordinator does not speak TLS on this port: {error}"
        )),
        // Says nothing about who we are.
        Error::AlertReceived(Alert::InternalError | Alert::CloseNotify | Alert::UserCanceled) => {
            None
        }
        Error::AlertReceived(_) => Some(format!(
            "the coordinator refused the certificate that this side shows: {error}"
        )),
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => {
            Some(format!("no common way to speak TLS: {error}"))
        }
        _ => None,
    }
}

/// The message with those of its sources, as one line, each said once.
fn chain(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut next = status.source();
    while let Some(error) = next {
        let said = error.to_string();
        if !said.is_empty() && !text.contains(&said) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&said);
        }
        next = error.source();
    }
    if text.is_empty() {
        status.code().description().clone_into(&mut text);
    }
    text
}

fn shortened(mut message: String) -> String {
    if message.len() > LONGEST_MESSAGE {
        let mut end = LONGEST_MESSAGE;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_comes_back_as_it_was() {
        for &reason in Reason::ALL {
            let error = CallError::new(reason, "shard 7 — hélas");
            let back = CallError::from(Status::from(error.clone()));
            assert_eq!((back.fault, back.reason), (error.fault, error.reason));
            assert_eq!(back.message, error.message);
        }
    }

    #[test]
    fn a_fault_other_than_its_reasons_survives() {
        let mut error = CallError::new(Reason::Internal, "a setting");
        error.fault = Fault::Config;
        let back = CallError::from(Status::from(error.clone()));
        assert_eq!(back, error);
    }

    #[test]
    fn the_field_at_fault_travels_as_a_violation() {
        let error = CallError::new(Reason::Malformed, "unknown field `colour`").in_field("spec");
        let status = Status::from(error.clone());
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(CallError::from(status), error);
    }

    #[test]
    fn who_is_told_to_come_back_learns_when() {
        let mut error = CallError::new(Reason::Unavailable, "the database is away");
        let default = CallError::from(Status::from(error.clone()));
        assert_eq!(default.retry_after, Some(RETRY_UNAVAILABLE));
        error.retry_after = Some(Duration::from_millis(2500));
        assert_eq!(CallError::from(Status::from(error.clone())), error);
        let quota = CallError::from(Status::from(CallError::new(Reason::Quota, "too many")));
        assert_eq!(quota.retry_after, Some(RETRY_QUOTA));
        let fenced = CallError::from(Status::from(CallError::new(Reason::LeaseFenced, "late")));
        assert_eq!(fenced.retry_after, None);
    }

    #[test]
    fn codes_are_those_that_tools_expect() {
        for (reason, expected) in [
            (Reason::LeaseFenced, Code::FailedPrecondition),
            (Reason::JobNotRunning, Code::FailedPrecondition),
            (Reason::JobUnknown, Code::NotFound),
            (Reason::IdentityUnknown, Code::Unauthenticated),
            (Reason::RoleMissing, Code::PermissionDenied),
            (Reason::TenantForeign, Code::PermissionDenied),
            (Reason::Quota, Code::ResourceExhausted),
            (Reason::MessageTooLarge, Code::ResourceExhausted),
            (Reason::Malformed, Code::InvalidArgument),
            (Reason::Unavailable, Code::Unavailable),
            (Reason::Corrupt, Code::DataLoss),
            (Reason::PartKeyForeign, Code::Internal),
        ] {
            assert_eq!(Status::from(CallError::new(reason, "")).code(), expected);
        }
    }

    #[test]
    fn statuses_of_others_are_read_by_their_code() {
        for (status, expected) in [
            (Status::unavailable("503"), Reason::Unavailable),
            (Status::deadline_exceeded("slow"), Reason::Unavailable),
            (Status::unimplemented(""), Reason::VersionTooOld),
            (Status::unauthenticated(""), Reason::IdentityUnknown),
            (Status::internal("?"), Reason::Internal),
            (
                Status::out_of_range("decoded message length too large: found 9 bytes"),
                Reason::MessageTooLarge,
            ),
        ] {
            assert_eq!(CallError::from(status).reason, expected);
        }
    }

    #[test]
    fn a_reason_of_a_newer_coordinator_keeps_its_fault() {
        let details = ErrorDetails::with_error_info(
            "MOON_PHASE",
            ERROR_DOMAIN,
            HashMap::from([("fault".to_owned(), "fenced".to_owned())]),
        );
        let status = Status::with_error_details(Code::FailedPrecondition, "no", details);
        assert_eq!(CallError::from(status).fault, Fault::Fenced);
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let cut = shortened("é".repeat(5000));
        assert!(cut.len() <= LONGEST_MESSAGE + 3 && cut.ends_with("é…"));
    }
}
