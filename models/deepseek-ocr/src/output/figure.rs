//! What a second question about a picture was answered with. The model says nothing of its
//! answer's kind: charts come as HTML tables, chemical structures as SMILES, drawings of plane
//! geometry as a dictionary, everything else as words.

use quire_core::Label;
use serde_json::Value;

use super::compose::clean;
use super::inline::tidy;
use super::{ReadOptions, read};
use crate::prompt::Task;

/// Dictionaries inside dictionaries; deeper is no drawing.
const MAX_DEPTH: usize = 32;
/// Longest structure, in bytes.
const MAX_SMILES: usize = 2000;
/// What a drawing consists of; a dictionary of anything else is no drawing.
const SHAPES: [&str; 4] = ["Line", "Lines", "Circle", "Circles"];

/// An answer by its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FigureAnswer {
    /// A chart's values as an HTML table.
    Table(String),
    /// A chemical structure.
    Smiles(String),
    /// Lines and circles of a drawing, as JSON.
    Geometry(String),
    /// A description as Markdown; may be empty.
    Text(String),
}

impl FigureAnswer {
    /// Tells what an answer is. Never fails: what is nothing else is text.
    pub fn read(raw: &str) -> Self {
        let options = ReadOptions { task: Task::Figure };
        let written = read(raw, (1, 1), &options);
        let mut tables = written
            .blocks
            .iter()
            .filter(|block| block.label == Label::Table)
            .filter_map(|block| block.html.as_deref());
        if let Some(first) = tables.next() {
            let all: Vec<&str> = std::iter::once(first).chain(tables).collect();
            return Self::Table(all.join("\n"));
        }
        let bare = clean(unfenced(&tidy(raw)));
        if let Some(value) = drawing(&bare) {
            return Self::Geometry(clean(&value.to_string()));
        }
        if is_smiles(&bare) {
            return Self::Smiles(bare);
        }
        Self::Text(written.text)
    }

    /// The word for its kind in datasets.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Table(_) => "table",
            Self::Smiles(_) => "smiles",
            Self::Geometry(_) => "geometry",
            Self::Text(_) => "description",
        }
    }

    /// The answer itself.
    pub fn text(&self) -> &str {
        match self {
            Self::Table(text) | Self::Smiles(text) | Self::Geometry(text) | Self::Text(text) => {
                text
            }
        }
    }
}

/// The inside of a fence, if the whole text stands in one.
fn unfenced(text: &str) -> &str {
    let fenced = text
        .strip_prefix("```")
        .and_then(|text| text.strip_suffix("```"))
        .and_then(|text| text.split_once('\n'));
    fenced.map_or(text, |(_, inside)| inside).trim()
}

/// A dictionary of shapes, or a list of them, in the notation of JSON or of Python.
fn drawing(text: &str) -> Option<Value> {
    let mut reader = Reader { rest: text };
    let value = reader.value(0)?;
    reader.space();
    let has_shape = |value: &Value| {
        let entries = value.as_object();
        let mut names = entries.into_iter().flat_map(|entries| entries.keys());
        names.any(|name| SHAPES.iter().any(|shape| shape.eq_ignore_ascii_case(name)))
    };
    let is_drawing = match &value {
        Value::Array(items) => !items.is_empty() && items.iter().all(has_shape),
        value => has_shape(value),
    };
    (is_drawing && reader.rest.is_empty()).then_some(value)
}

/// Reads literals.
#[derive(Debug)]
struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Takes a character if it is next.
    fn take(&mut self, c: char) -> bool {
        self.space();
        let Some(rest) = self.rest.strip_prefix(c) else {
            return false;
        };
        self.rest = rest;
        true
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.space();
        match self.rest.chars().next()? {
            '{' => self.entries(depth),
            '[' => self.items('[', ']', depth),
            '(' => self.items('(', ')', depth),
            '"' | '\'' => self.string().map(Value::String),
            _ => self.word(),
        }
    }

    fn entries(&mut self, depth: usize) -> Option<Value> {
        let mut entries = serde_json::Map::new();
        self.take('{');
        while !self.take('}') {
            let key = match self.value(depth + 1)? {
                Value::String(key) => key,
                key @ (Value::Number(_) | Value::Bool(_)) => key.to_string(),
                _ => return None,
            };
            if !self.take(':') {
                return None;
            }
            let value = self.value(depth + 1)?;
            entries.insert(key, value);
            if !self.take(',') && !self.rest.starts_with('}') {
                return None;
            }
        }
        Some(Value::Object(entries))
    }

    fn items(&mut self, open: char, close: char, depth: usize) -> Option<Value> {
        let mut items = Vec::new();
        self.take(open);
        while !self.take(close) {
            items.push(self.value(depth + 1)?);
            if !self.take(',') && !self.rest.starts_with(close) {
                return None;
            }
        }
        Some(Value::Array(items))
    }

    fn string(&mut self) -> Option<String> {
        let quote = self.rest.chars().next()?;
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => match chars.next()?.1 {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    other => text.push(other),
                },
                c if c == quote => {
                    self.rest = &self.rest[at + 1..];
                    return Some(text);
                }
                c => text.push(c),
            }
        }
        None
    }

    /// A number or one of the words that stand for themselves.
    fn word(&mut self) -> Option<Value> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
        let n_bytes = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(n_bytes);
        self.rest = rest;
        match word {
            "true" | "True" => Some(Value::Bool(true)),
            "false" | "False" => Some(Value::Bool(false)),
            "null" | "None" => Some(Value::Null),
            number => match number.parse::<i64>() {
                Ok(number) => Some(number.into()),
                Err(_) => serde_json::Number::from_f64(number.parse().ok()?).map(Value::Number),
            },
        }
    }
}

/// Whether a text is a chemical structure in a line: atoms, bonds, rings and branches that close.
fn is_smiles(text: &str) -> bool {
    if text.len() > MAX_SMILES {
        return false;
    }
    let Some(n_atoms) = atoms(text) else {
        return false;
    };
    // A word of a caption may be made of atoms' letters: more than letters must show, or carbon
    // and a few atoms that no word is made of alone.
    let is_marked = text.contains(|c: char| !c.is_ascii_alphabetic());
    let is_chain = n_atoms >= 2 && text.bytes().all(|byte| matches!(byte, b'C' | b'N' | b'O'));
    (n_atoms >= 1 && is_marked && text.contains(|c: char| c.is_ascii_alphabetic()))
        || (is_chain && text.starts_with('C'))
}

/// How many atoms a structure has; `None` where it is none.
fn atoms(text: &str) -> Option<usize> {
    const TWO_LETTERS: [&str; 2] = ["Cl", "Br"];
    const ONE_LETTER: &str = "BCNOPSFIbcnops*";
    let mut n_atoms = 0;
    let mut n_branches = 0usize;
    let mut open_rings = [false; 100];
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let mut len = 1;
        if TWO_LETTERS.iter().any(|atom| rest.starts_with(atom)) {
            n_atoms += 1;
            len = 2;
        } else if ONE_LETTER.contains(c) {
            n_atoms += 1;
        } else {
            match c {
                '[' => {
                    len = rest.find(']')? + 1;
                    let inside = &rest[1..len - 1];
                    if !is_bracket_atom(inside) {
                        return None;
                    }
                    n_atoms += 1;
                }
                '(' if n_atoms > 0 => n_branches += 1,
                ')' => n_branches = n_branches.checked_sub(1)?,
                '0'..='9' if n_atoms > 0 => {
                    let ring = &mut open_rings[usize::from(rest.as_bytes()[0] - b'0')];
                    *ring = !*ring;
                }
                '%' if n_atoms > 0 => {
                    len = 3;
                    let ring: usize = rest.get(1..3)?.parse().ok()?;
                    open_rings[ring] = !open_rings[ring];
                }
                '-' | '=' | '#' | '$' | ':' | '/' | '\\' | '.' | '~' => {}
                _ => return None,
            }
        }
        rest = &rest[len..];
    }
    (n_branches == 0 && open_rings.iter().all(|is_open| !is_open)).then_some(n_atoms)
}

/// `NH4+`, `C@@H`, `13C`, `Fe+2`: mass, symbol, then hydrogen, charge and the like.
fn is_bracket_atom(inside: &str) -> bool {
    let symbol = inside.trim_start_matches(|c: char| c.is_ascii_digit());
    let mut chars = symbol.chars();
    let behind = match chars.next() {
        Some(c) if c.is_ascii_uppercase() => {
            let behind = chars.as_str();
            behind
                .strip_prefix(|c: char| c.is_ascii_lowercase())
                .unwrap_or(behind)
        }
        Some('b' | 'c' | 'n' | 'o' | 'p' | 's' | '*') => chars.as_str(),
        _ => return false,
    };
    behind
        .chars()
        .all(|c| c.is_ascii_digit() || matches!(c, '@' | 'H' | '+' | '-' | ':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_are_tables() {
        let answer = FigureAnswer::read("<table><tr><td>year</td><td>2024</td></tr><tr><td>a");
        assert_eq!(answer.kind(), "table");
        assert_eq!(
            answer.text().replace('\n', ""),
            "<table><tr><td>year</td><td>2024</td></tr><tr><td>a</td></tr></table>"
        );
    }

    #[test]
    fn structures_are_told_from_words() {
        for text in [
            "CCO",
            "CC(=O)Oc1ccccc1C(=O)O",
            "C[C@@H](N)C(=O)O",
            "[Na+].[Cl-]",
            "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
            "c1ccccc1",
            "BrC%10CC%10",
            "```smiles\nC#N\n```",
        ] {
            assert_eq!(FigureAnswer::read(text).kind(), "smiles", "{text}");
        }
        for text in [
            "",
            "Icon",
            "NO",
            "SOS",
            "a",
            "A photo of a cat.",
            "c1ccccc",
            "CC(=O",
            "CC)O(",
            "2024",
            "-",
            "[see below]",
            "[see]",
            "C%",
            "C%9é",
        ] {
            assert_eq!(FigureAnswer::read(text).kind(), "description", "{text}");
        }
    }

    #[test]
    fn drawings_are_json_whatever_their_quotes() {
        for text in [
            r#"{"Line": {"line": ["(1,2) -- (3,4)"], "n": 2, "open": true}}"#,
            r#"{'Line': {'line': ['(1,2) -- (3,4)'], 'n': 2, 'open': True,},}"#,
            "```json\n{\"Line\": {\"line\": (\"(1,2) -- (3,4)\",), \"n\": 2, \"open\": true}}\n```",
        ] {
            assert_eq!(
                FigureAnswer::read(text),
                FigureAnswer::Geometry(
                    r#"{"Line":{"line":["(1,2) -- (3,4)"],"n":2,"open":true}}"#.to_owned()
                ),
                "{text}"
            );
        }
        for text in [
            r#"{"Line": ["#,
            "{}",
            "{} or not",
            "[1, 2]",
            "{'Line': b}",
            "{'sales': 3}",
        ] {
            assert_eq!(FigureAnswer::read(text).kind(), "description", "{text}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(FigureAnswer::read(&deep).kind(), "description");
    }

    #[test]
    fn words_are_a_description() {
        let answer =
            FigureAnswer::read("A <|ref|>cat<|/ref|><|det|>[[1, 2, 3, 4]]<|/det|> sits.\n");
        assert_eq!(answer, FigureAnswer::Text("A cat sits.".to_owned()));
    }
}
