//! Settings for people and programs to read, with secrets masked.

use serde_json::{Map, json};
use toml::{Table, Value};

use super::merge::{Merged, Origin};
use super::secret::{MASK, is_secret};

/// The merged settings as TOML; a comment says who set what is not a default.
pub(crate) fn as_toml(merged: &Merged) -> String {
    let mut text = String::new();
    write_table(merged, &merged.table, "", &mut text);
    text.trim_start().to_owned()
}

fn write_table(merged: &Merged, table: &Table, at: &str, text: &mut String) {
    if !at.is_empty() && table.values().any(|value| !value.is_table()) {
        text.push_str(&format!("\n[{at}]\n"));
    }
    for (name, value) in table.iter().filter(|(_, value)| !value.is_table()) {
        let key = join(at, name);
        text.push_str(&format!("{name} = {}", masked(&key, value)));
        match merged.origin(&key) {
            Origin::Default => text.push('\n'),
            origin => text.push_str(&format!("  # from {origin}\n")),
        }
    }
    for (name, value) in table {
        if let Value::Table(inner) = value {
            write_table(merged, inner, &join(at, name), text);
        }
    }
}

/// The merged settings as JSON: `{"render.dpi": {"value": 144, "from": "default"}, ...}`.
pub(crate) fn as_json(merged: &Merged) -> serde_json::Value {
    let mut object = Map::new();
    add_leaves(merged, &merged.table, "", &mut object);
    serde_json::Value::Object(object)
}

fn add_leaves(
    merged: &Merged,
    table: &Table,
    at: &str,
    object: &mut Map<String, serde_json::Value>,
) {
    for (name, value) in table {
        let key = join(at, name);
        match value {
            Value::Table(inner) => add_leaves(merged, inner, &key, object),
            value => {
                let from = merged.origin(&key).to_string();
                object.insert(
                    key.clone(),
                    json!({ "value": masked(&key, value), "from": from }),
                );
            }
        }
    }
}

fn masked(key: &str, value: &Value) -> Value {
    match value {
        Value::Array(values) if is_secret(key) => Value::Array(
            values
                .iter()
                .map(|_| Value::String(MASK.to_owned()))
                .collect(),
        ),
        _ if is_secret(key) => Value::String(MASK.to_owned()),
        value => value.clone(),
    }
}

fn join(at: &str, name: &str) -> String {
    if at.is_empty() {
        name.to_owned()
    } else {
        format!("{at}.{name}")
    }
}
