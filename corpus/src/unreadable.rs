//! From errors of readers and decoders to typed trouble.

use std::error::Error;
use std::fmt;
use std::io;

use quire_core::{Stage, Trouble, TroubleCode};

/// Trouble on its way through code that knows only `io::Error`.
#[derive(Debug)]
pub(crate) struct TroubleError(Trouble);

impl TroubleError {
    pub(crate) fn wrap(trouble: Trouble) -> io::Error {
        io::Error::other(Self(trouble))
    }
}

impl fmt::Display for TroubleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl Error for TroubleError {}

/// The trouble inside an error, however deep libraries have wrapped it.
pub(crate) fn inner_trouble<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Trouble> {
    let mut at: Option<&'a (dyn Error + 'static)> = Some(error);
    while let Some(error) = at {
        if let Some(TroubleError(trouble)) = error.downcast_ref() {
            return Some(trouble);
        }
        // `io::Error::source` steps over the error it wraps, which is the one sought.
        if let Some(inner) = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            at = Some(inner);
            continue;
        }
        at = error.source();
    }
    None
}

/// What a failed read of a file or decoder means.
pub(crate) fn trouble_of_io(error: &io::Error, stage: Stage) -> Trouble {
    if let Some(trouble) = inner_trouble(error) {
        return trouble.clone();
    }
    let code = match error.kind() {
        io::ErrorKind::NotFound => TroubleCode::NotFound,
        io::ErrorKind::PermissionDenied => TroubleCode::Denied,
        io::ErrorKind::UnexpectedEof => TroubleCode::Truncated,
        io::ErrorKind::OutOfMemory => TroubleCode::OutOfMemory,
        io::ErrorKind::TimedOut => TroubleCode::Timeout,
        _ if error.raw_os_error().is_some() => TroubleCode::Other,
        // Decoders have no other way to say that their input makes no sense.
        _ => TroubleCode::Damaged,
    };
    let message = match code {
        TroubleCode::Truncated => "ends before its end".to_owned(),
        _ => error.to_string(),
    };
    Trouble::new(stage, code, message)
}
