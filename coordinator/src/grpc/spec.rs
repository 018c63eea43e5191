//! The specification of a job as it arrives: what we do not know in it is refused by name, or a
//! misspelled setting would silently be the default for a billion pages.

use quire_core::JobSpec;
use quire_proto::{CallError, Reason};
use serde_json::Value;

/// Every lease carries its job's specification, and several leases go into one message.
const LONGEST: usize = 1024 * 1024;
const FIELD: &str = "job_spec_json";

/// Checks that a specification is short, whole and holds nothing unknown.
pub(super) fn check(text: &str) -> Result<(), CallError> {
    if text.len() > LONGEST {
        let message = format!(
            "the job's specification takes {} bytes, and {LONGEST} are allowed: name folders or \
             patterns instead of single inputs",
            text.len()
        );
        return Err(CallError::new(Reason::MessageTooLarge, message).in_field(FIELD));
    }
    let refused = |message: String, field: String| {
        let message = format!("the job's specification cannot be understood: {message}");
        CallError::new(Reason::Malformed, message).in_field(field)
    };
    let malformed = |error: serde_json::Error| refused(error.to_string(), FIELD.to_owned());
    let given: Value = serde_json::from_str(text).map_err(malformed)?;
    let spec: JobSpec = serde_json::from_str(text).map_err(malformed)?;
    let known = serde_json::to_value(&spec).map_err(malformed)?;
    match unknown(&given, &known) {
        None => Ok(()),
        Some(path) => Err(refused(
            format!("unknown field `{path}`"),
            format!("{FIELD}.{path}"),
        )),
    }
}

/// The path of the first key of `given` that `known`, which was read from it, does not have.
fn unknown(given: &Value, known: &Value) -> Option<String> {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => {
            given.iter().find_map(|(key, value)| match known.get(key) {
                None => Some(key.clone()),
                Some(known) => unknown(value, known).map(|path| format!("{key}.{path}")),
            })
        }
        (Value::Array(given), Value::Array(known)) => {
            given
                .iter()
                .zip(known)
                .enumerate()
                .find_map(|(i, (given, known))| {
                    unknown(given, known).map(|path| format!("{i}.{path}"))
                })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unknown_keys_are_found_at_any_depth() {
        let known = json!({"a": 1, "b": {"c": [{"d": 2}]}});
        for (given, expected) in [
            (json!({"a": 7}), None),
            (json!({"b": {"c": [{"d": 0}]}}), None),
            (json!({"colour": 1}), Some("colour")),
            (json!({"b": {"e": 1}}), Some("b.e")),
            (json!({"b": {"c": [{"x": 1}]}}), Some("b.c.0.x")),
        ] {
            assert_eq!(unknown(&given, &known).as_deref(), expected, "{given}");
        }
    }

    #[test]
    fn what_is_too_long_or_no_specification_is_refused() {
        let error = check(&" ".repeat(LONGEST + 1)).unwrap_err();
        assert_eq!(error.reason, Reason::MessageTooLarge);
        for text in ["", "{", "[]", "{}", "7"] {
            let error = check(text).unwrap_err();
            assert_eq!(error.reason, Reason::Malformed, "{text}");
            assert_eq!(error.field.as_deref(), Some(FIELD));
        }
    }
}
