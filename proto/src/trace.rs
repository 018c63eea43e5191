//! The W3C trace context of what is being done, from lease to call and from call to handler.

use tokio::task_local;

/// Name of the metadata that carries it.
pub const TRACEPARENT: &str = "traceparent";

task_local! {
    static CURRENT: String;
}

/// Runs `work` as part of the trace that `traceparent` names; one that is malformed or empty is
/// dropped, as the standard asks.
pub async fn with_traceparent<F: Future>(traceparent: &str, work: F) -> F::Output {
    if is_traceparent(traceparent) {
        CURRENT.scope(traceparent.to_owned(), work).await
    } else {
        work.await
    }
}

/// The trace context that this task works under.
pub fn current_traceparent() -> Option<String> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Whether `text` is `version-trace-parent-flags` in lower hex, with a trace and a parent that
/// are not all zeros.
pub fn is_traceparent(text: &str) -> bool {
    let fields: Vec<&str> = text.split('-').collect();
    let [version, trace, parent, flags] = fields[..] else {
        return false;
    };
    let is_hex = |field: &str, length: usize| {
        field.len() == length
            && field
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    is_hex(version, 2)
        && version != "ff"
        && is_hex(trace, 32)
        && is_hex(parent, 16)
        && is_hex(flags, 2)
        && trace.bytes().any(|byte| byte != b'0')
        && parent.bytes().any(|byte| byte != b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn only_whole_trace_contexts_are_taken() {
        assert!(is_traceparent(GOOD));
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert!(!is_traceparent(bad), "{bad}");
        }
    }

    #[tokio::test]
    async fn work_knows_the_trace_it_belongs_to() {
        let seen = with_traceparent(GOOD, async { current_traceparent() }).await;
        assert_eq!(seen.as_deref(), Some(GOOD));
        assert_eq!(
            with_traceparent("?", async { current_traceparent() }).await,
            None
        );
        assert_eq!(current_traceparent(), None);
    }
}
