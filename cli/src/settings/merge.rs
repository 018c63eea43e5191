//! Lays tables over one another: defaults, the user's file, environment, flags. The defaults are
//! the schema: a key they do not have is an error, and so is a value of another kind.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use toml::{Table, Value};

use super::{DEEPSEEK_OCR, FlagValue, SettingsError};

/// Who set a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File(PathBuf),
    /// The variable's name.
    Environment(String),
    /// The flag as typed.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Tables laid over the defaults so far, and who set what.
#[derive(Debug, Clone)]
pub(crate) struct Merged {
    pub table: Table,
    /// By dotted key; a key that is absent has its default.
    pub origins: BTreeMap<String, Origin>,
    schema: Table,
}

/// The key of a flag that sets the mode of whichever engine reads.
pub(crate) const MODE: &str = "mode";

/// The one section whose keys the user makes up: what a store knows is for the store to say.
const FREE_SECTION: &str = "stores";

impl Merged {
    /// The defaults, over which the rest is laid.
    pub(crate) fn new(defaults: Table) -> Self {
        Self {
            table: defaults.clone(),
            origins: BTreeMap::new(),
            schema: defaults,
        }
    }

    /// Who set the value of a dotted key.
    pub(crate) fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// Lays a whole table over what is there.
    pub(crate) fn lay_table(&mut self, over: Table, origin: &Origin) -> Result<(), SettingsError> {
        let mut leaves = Vec::new();
        flatten(over, &mut Vec::new(), &mut leaves);
        for (path, value) in leaves {
            self.set(&path, value, origin.clone())?;
        }
        Ok(())
    }

    /// Lays what was typed over what is there. A mode is one of the engine that is then in use.
    pub(crate) fn lay_flags(&mut self, flags: &[FlagValue]) -> Result<(), SettingsError> {
        let (modes, others): (Vec<_>, Vec<_>) = flags.iter().partition(|flag| flag.key == MODE);
        for FlagValue { key, value, flag } in others.into_iter().chain(modes) {
            let key = match *key {
                MODE if self.is_deepseek() => "deepseek_ocr.mode",
                MODE => "engine.mode",
                key => key,
            };
            let path: Vec<String> = key.split('.').map(str::to_owned).collect();
            self.set(&path, value.clone(), Origin::Flag((*flag).to_owned()))?;
        }
        Ok(())
    }

    fn is_deepseek(&self) -> bool {
        let engine = self.table.get("engine").and_then(Value::as_table);
        let name = engine.and_then(|engine| engine.get("name"));
        name.and_then(Value::as_str) == Some(DEEPSEEK_OCR)
    }

    /// Sets a key from text, such as a variable of the environment: read as what the key holds.
    pub(crate) fn set_text(
        &mut self,
        path: &[String],
        text: &str,
        origin: Origin,
    ) -> Result<(), SettingsError> {
        let value = match self.kind_of(path) {
            Some(kind) => read_as(kind, text).ok_or_else(|| SettingsError::Kind {
                key: path.join("."),
                expected: kind_name(kind),
                found: "text",
                origin: origin.to_string(),
            })?,
            None => match text {
                "true" | "false" => Value::Boolean(text == "true"),
                _ => Value::String(text.to_owned()),
            },
        };
        self.set(path, value, origin)
    }

    /// Sets one key.
    pub(crate) fn set(
        &mut self,
        path: &[String],
        value: Value,
        origin: Origin,
    ) -> Result<(), SettingsError> {
        let key = path.join(".");
        if !is_free(path) {
            let kind = self.kind_of(path).ok_or_else(|| SettingsError::Unknown {
                key: key.clone(),
                origin: origin.to_string(),
                suggestion: self.suggestion(&key),
            })?;
            if !fits(kind, &value) {
                let (expected, found) = (kind_name(kind), kind_name(&value));
                let origin = origin.to_string();
                return Err(SettingsError::Kind {
                    key,
                    expected,
                    found,
                    origin,
                });
            }
        }
        let Some((last, parents)) = path.split_last() else {
            return Ok(());
        };
        let mut table = &mut self.table;
        for name in parents {
            let entry = table
                .entry(name.clone())
                .or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(next) = entry else {
                let origin = origin.to_string();
                return Err(SettingsError::Kind {
                    key,
                    expected: "table",
                    found: "value",
                    origin,
                });
            };
            table = next;
        }
        table.insert(last.clone(), value);
        self.origins.insert(key, origin);
        Ok(())
    }

    fn kind_of(&self, path: &[String]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        let mut value = self.schema.get(first)?;
        for name in rest {
            value = value.as_table()?.get(name)?;
        }
        (!value.is_table()).then_some(value)
    }

    /// The known key that was probably meant: same name in another section, or few letters away.
    fn suggestion(&self, key: &str) -> Option<String> {
        let mut leaves = Vec::new();
        flatten(self.schema.clone(), &mut Vec::new(), &mut leaves);
        let name = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
        let known = leaves.into_iter().map(|(path, _)| path.join("."));
        let scored = known.map(|known| {
            let by_name = edit_distance(&name(&known), &name(key));
            (edit_distance(&known, key).min(by_name + 1), known)
        });
        scored
            .min()
            .filter(|(distance, _)| *distance <= 1 + key.len() / 6)
            .map(|(_, key)| key)
    }
}

fn is_free(path: &[String]) -> bool {
    path.len() >= 3 && path.first().is_some_and(|section| section == FREE_SECTION)
}

/// The table's values with their paths; a table without values leaves nothing.
fn flatten(table: Table, at: &mut Vec<String>, leaves: &mut Vec<(Vec<String>, Value)>) {
    for (name, value) in table {
        at.push(name);
        match value {
            Value::Table(table) => flatten(table, at, leaves),
            value => leaves.push((at.clone(), value)),
        }
        at.pop();
    }
}

fn fits(kind: &Value, value: &Value) -> bool {
    kind.same_type(value) || (is_number(kind) && is_number(value))
}

fn is_number(value: &Value) -> bool {
    value.is_integer() || value.is_float()
}

pub(super) fn kind_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text",
        Value::Integer(_) | Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
        Value::Datetime(_) => "a date",
    }
}

/// A list is read as TOML when it looks like one; other text is a list of that one value, since
/// a password may hold any separator.
fn read_as(kind: &Value, text: &str) -> Option<Value> {
    match kind {
        Value::String(_) => Some(Value::String(text.to_owned())),
        Value::Integer(_) | Value::Float(_) => {
            let integer = text.trim().parse().map(Value::Integer);
            integer
                .or_else(|_| text.trim().parse().map(Value::Float))
                .ok()
        }
        Value::Boolean(_) => text.trim().parse().map(Value::Boolean).ok(),
        Value::Array(_) if text.trim_start().starts_with('[') => {
            let table: Table = format!("list = {text}").parse().ok()?;
            table.get("list").cloned()
        }
        Value::Array(_) if text.is_empty() => Some(Value::Array(Vec::new())),
        Value::Array(_) => Some(Value::Array(vec![Value::String(text.to_owned())])),
        Value::Table(_) | Value::Datetime(_) => None,
    }
}

/// Letters to insert, delete or change to make one text the other.
pub(super) fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}
