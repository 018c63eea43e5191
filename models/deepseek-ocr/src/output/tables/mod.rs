//! Tables as the model writes them: HTML, read as leniently as browsers do and written anew, so
//! that what leaves is well-formed whatever came.

mod tags;
mod write;

use self::tags::{KEPT, Tag, close, decoded, escape, is_cut_tag, open, span, tag};
use super::formulas::{self, Span};

/// A stretch of a block's content.
#[derive(Debug, PartialEq)]
pub(super) enum Part {
    Text(String),
    Table(Table),
}

/// A table's rows.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Table {
    rows: Vec<Vec<Cell>>,
}

#[derive(Debug, PartialEq)]
struct Cell {
    /// Escaped, with the tags of [`KEPT`].
    html: String,
    plain: String,
    is_head: bool,
    columns: usize,
    rows: usize,
}

/// Cuts a text at its tables. Words of a table that stand in no cell become text beside it.
pub(super) fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = table_start(rest) {
        push_text(&mut parts, &rest[..at]);
        let mut builder = Builder::default();
        rest = builder.read(&rest[at..]);
        builder.table.rows.retain(|row| !row.is_empty());
        push_text(&mut parts, &builder.before);
        if !builder.table.rows.is_empty() {
            parts.push(Part::Table(builder.table));
        }
        push_text(&mut parts, &builder.behind);
    }
    push_text(&mut parts, rest);
    parts
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    let text = text.trim();
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
}

/// Where the first tag of a table stands.
fn table_start(text: &str) -> Option<usize> {
    text.match_indices('<').map(|(at, _)| at).find(|&at| {
        tag(&text[at..])
            .is_some_and(|(tag, _)| !tag.is_end && matches!(tag.name, "table" | "tr" | "td" | "th"))
    })
}

/// Puts a table together from its tags.
#[derive(Debug, Default)]
struct Builder {
    table: Table,
    is_in_row: bool,
    cell: Option<OpenCell>,
    /// Tables open inside each other.
    depth: usize,
    /// Words in no cell, before the first row and after it.
    before: String,
    behind: String,
}

#[derive(Debug)]
struct OpenCell {
    html: String,
    plain: String,
    is_head: bool,
    columns: usize,
    rows: usize,
    /// Tags to be closed.
    open: Vec<&'static str>,
}

impl Builder {
    /// Reads one table and returns what follows it.
    fn read<'a>(&mut self, text: &'a str) -> &'a str {
        let mut rest = text;
        let mut words = String::new();
        while let Some(first) = rest.chars().next() {
            if first != '<' {
                let n_bytes = rest.find('<').unwrap_or(rest.len());
                words.push_str(&rest[..n_bytes]);
                rest = &rest[n_bytes..];
                continue;
            }
            let Some((tag, n_bytes)) = tag(rest) else {
                if is_cut_tag(rest) {
                    rest = "";
                } else {
                    words.push('<');
                    rest = &rest[1..];
                }
                continue;
            };
            self.words(&std::mem::take(&mut words));
            rest = &rest[n_bytes..];
            if self.tag(&tag) {
                return rest;
            }
        }
        self.words(&words);
        self.close_cell();
        rest
    }

    /// Takes a tag; whether it ended the table.
    fn tag(&mut self, tag: &Tag<'_>) -> bool {
        match (tag.name, tag.is_end) {
            ("table", false) => self.depth += 1,
            ("table", true) => {
                if self.depth <= 1 {
                    self.close_cell();
                    return true;
                }
                self.depth -= 1;
                self.gap();
            }
            // A table inside a cell is part of the cell's words.
            _ if self.depth > 1 => self.gap(),
            ("tr", is_end) => {
                self.close_cell();
                self.is_in_row = false;
                if !is_end {
                    self.open_row();
                }
            }
            ("td" | "th", true) => self.close_cell(),
            ("td" | "th", false) => self.open_cell(tag),
            _ => self.inline(tag),
        }
        false
    }

    fn open_row(&mut self) {
        // A row without cells says nothing.
        if self.table.rows.last().is_none_or(|row| !row.is_empty()) {
            self.table.rows.push(Vec::new());
        }
        self.is_in_row = true;
    }

    fn open_cell(&mut self, tag: &Tag<'_>) {
        self.close_cell();
        if !self.is_in_row {
            self.open_row();
        }
        self.cell = Some(OpenCell {
            html: String::new(),
            plain: String::new(),
            is_head: tag.name == "th",
            columns: span(tag.attributes, "colspan"),
            rows: span(tag.attributes, "rowspan"),
            open: Vec::new(),
        });
    }

    fn close_cell(&mut self) {
        let Some(mut cell) = self.cell.take() else {
            return;
        };
        while let Some(name) = cell.open.pop() {
            close(&mut cell.html, name);
        }
        let cell = Cell {
            html: collapsed(&cell.html),
            plain: collapsed(&cell.plain),
            is_head: cell.is_head,
            columns: cell.columns,
            rows: cell.rows,
        };
        if let Some(row) = self.table.rows.last_mut() {
            row.push(cell);
        }
    }

    fn words(&mut self, text: &str) {
        let text = decoded(text);
        match &mut self.cell {
            Some(cell) => {
                let text = with_dollars(&text);
                cell.plain.push_str(&text);
                escape(&text, &mut cell.html);
            }
            None if self.table.rows.is_empty() => self.before.push_str(&text),
            None => self.behind.push_str(&text),
        }
    }

    /// White space where a tag kept words apart.
    fn gap(&mut self) {
        if let Some(cell) = &mut self.cell {
            cell.plain.push(' ');
            cell.html.push(' ');
        }
    }

    fn inline(&mut self, tag: &Tag<'_>) {
        let name = tag.name;
        if !KEPT.contains(&name) {
            if name != "span" {
                self.gap();
            }
            return;
        }
        let Some(cell) = &mut self.cell else {
            return;
        };
        if name == "br" {
            cell.plain.push(' ');
            cell.html.push_str("<br>");
        } else if !tag.is_end {
            open(&mut cell.html, name);
            cell.open.push(name);
        } else if let Some(at) = cell.open.iter().rposition(|open| *open == name) {
            for name in cell.open.drain(at..).rev() {
                close(&mut cell.html, name);
            }
        }
    }
}

/// A cell's formulas all stand in its line.
fn with_dollars(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for span in formulas::spans(text) {
        match span {
            Span::Text(text) => out.push_str(&text),
            Span::Inline(latex) | Span::Display(latex) => {
                out.push('$');
                out.push_str(&latex);
                out.push('$');
            }
        }
    }
    out
}

fn collapsed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only_table(text: &str) -> Table {
        let mut parts = parts(text);
        assert_eq!(parts.len(), 1, "{text}: {parts:?}");
        match parts.pop() {
            Some(Part::Table(table)) => table,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn check(text: &str, html: &str, plain: &str) {
        let table = only_table(text);
        assert_eq!(table.html().replace('\n', ""), html, "{text}");
        assert_eq!(table.plain(), plain, "{text}");
    }

    #[test]
    fn a_table_is_written_anew() {
        check(
            "<table><tr><td>a</td><td>1</td></tr><tr><td>b</td><td>2</td></tr></table>",
            "<table><tr><td>a</td><td>1</td></tr><tr><td>b</td><td>2</td></tr></table>",
            "a\t1\nb\t2",
        );
        check(
            "<TABLE border=1><thead><tr><th style='x'>A &amp; B</th></tr></thead>\
             <tbody><tr><td> c<br/>d \n e</td></tr></tbody></TABLE>",
            "<table><tr><th>A &amp; B</th></tr><tr><td>c<br>d e</td></tr></table>",
            "A & B\nc d e",
        );
    }

    #[test]
    fn spans_leave_empty_cells_in_plain_text() {
        check(
            "<table><tr><td colspan=2>a</td><td rowspan=\"2\">b</td></tr>\
             <tr><td>c</td><td>d</td></tr><tr><td>e</td><td>f</td><td>g</td></tr></table>",
            "<table><tr><td colspan=\"2\">a</td><td rowspan=\"2\">b</td></tr>\
             <tr><td>c</td><td>d</td></tr><tr><td>e</td><td>f</td><td>g</td></tr></table>",
            "a\t\tb\nc\td\ne\tf\tg",
        );
        check(
            "<table><tr><td rowspan=2>a</td><td>b</td></tr><tr><td>c</td></tr></table>",
            "<table><tr><td rowspan=\"2\">a</td><td>b</td></tr><tr><td>c</td></tr></table>",
            "a\tb\n\tc",
        );
        check(
            "<td colspan=99999999999999999999>x<td colspan=0 rowspan=x>y",
            "<table><tr><td>x</td><td>y</td></tr></table>",
            "x\ty",
        );
    }

    #[test]
    fn tables_that_break_off_keep_their_cells() {
        for text in [
            "<table><tr><td>a</td><td>b",
            "<table><tr><td>a</td><td>b</td",
            "<table><tr><td>a<td>b</td></tr></tab",
            "<tr><td>a</td><td>b</td></tr>",
            "<td>a</td><td>b</td><t",
            "<table><tr></tr><tr><td>a</td><td>b</td><tr colspan=\"2",
        ] {
            let table = only_table(text);
            assert_eq!(table.plain(), "a\tb", "{text}");
            assert!(table.html().ends_with("</tr>\n</table>"), "{text}");
        }
    }

    #[test]
    fn what_is_no_tag_is_text() {
        check(
            "<table><tr><td>a < b</td><td>x<y & z&foo;</td><td><script>1</script></td></tr></table>",
            "<table><tr><td>a &lt; b</td><td>x&lt;y &amp; z&amp;foo;</td>\
             <td>&lt;script&gt;1&lt;/script&gt;</td></tr></table>",
            "a < b\tx<y & z&foo;\t<script>1</script>",
        );
        check(
            "<table><tr><td>x<sup>2</td><td></b>\\( a < b \\)&#8364;&#0;</td></tr></table>",
            "<table><tr><td>x<sup>2</sup></td><td>$a &lt; b$€&amp;#0;</td></tr></table>",
            "x2\t$a < b$€&#0;",
        );
    }

    #[test]
    fn words_around_a_table_are_kept() {
        let parts = parts("before <table>title<tr><td>a</td></tr>stray</table> behind");
        let texts: Vec<String> = parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::Table(table) => table.plain(),
            })
            .collect();
        assert_eq!(texts, ["before", "title", "a", "stray", "behind"]);
        assert_eq!(
            super::parts("a < b and <center>"),
            [Part::Text("a < b and <center>".to_owned())]
        );
    }

    #[test]
    fn a_table_in_a_cell_is_its_words() {
        check(
            "<table><tr><td>a<table><tr><td>b</td><td>c</td></tr></table></td><td>d</td></tr></table>",
            "<table><tr><td>a b c</td><td>d</td></tr></table>",
            "a b c\td",
        );
    }
}
