//! Code listings, told from text by an even character pitch and by how their lines read.

use crate::draft::Page;
use crate::geometry::median;
use crate::lists::{Kind, marker};
use crate::rows::Row;

/// Characters that code is full of and text is not.
const SYMBOLS: &str = "{}[]()<>=;\\/$#&|_*+\"`:@%^~";

/// What lines of code start with.
const STARTS: &[&str] = &[
    "$ ",
    "# ",
    "#include",
    "#!",
    "// ",
    "/*",
    "* ",
    "*/",
    "import ",
    "from ",
    "def ",
    "class ",
    "return",
    "if (",
    "for (",
    "while (",
    "else",
    "}",
    "{",
    "<?",
    "</",
    "public ",
    "private ",
    "static ",
    "void ",
    "int ",
    "const ",
    "let ",
    "var ",
    "function ",
    "sudo ",
    "SELECT ",
    "FROM ",
    "WHERE ",
    "INSERT ",
    "CREATE ",
    "GRANT ",
    "\\begin",
    "\\end",
    "\\use",
    "--",
    "%",
    ">>>",
    "AND ",
    "CASE ",
    "WHEN ",
    "THEN ",
    "END",
];

/// How strongly a line reads as code, 0 to 1.
fn likeness(text: &str) -> f32 {
    let trimmed = text.trim();
    let chars = trimmed.chars().count().max(1) as f32;
    let symbols = trimmed.chars().filter(|&c| SYMBOLS.contains(c)).count() as f32;
    let within = [
        "()", "->", "=>", "==", "!=", "+=", "::", " = ", "&&", "||", "\\\\", "${", " --", "/usr",
        "/etc", ");", "</", "/>", "];",
    ];
    let mut score = (symbols / chars / 0.12).min(1.0) * 0.5;
    if ends_statement(trimmed) {
        score += 0.4;
    }
    if STARTS.iter().any(|start| trimmed.starts_with(start)) {
        score += 0.4;
    }
    if within.iter().any(|sign| trimmed.contains(sign)) {
        score += 0.3;
    }
    // Sentences with symbols in them are text all the same.
    let words = trimmed
        .split(' ')
        .filter(|word| word.len() >= 3 && word.chars().all(char::is_alphabetic));
    let is_comment = ["//", "#", "--", "%", "*", "/*", "$"]
        .iter()
        .any(|mark| trimmed.starts_with(mark));
    if words.count() >= 6 && !is_comment {
        score -= 0.5;
    }
    score.clamp(0.0, 1.0)
}

fn ends_statement(trimmed: &str) -> bool {
    trimmed.ends_with([';', '{', '}', '\\']) || trimmed.ends_with(");")
}

/// Whether a line starts or ends as only code does.
fn is_statement(text: &str) -> bool {
    let trimmed = text.trim();
    let is_item = marker(trimmed).is_some_and(|mark| !matches!(mark.kind, Kind::Dash));
    !is_item && ends_statement(trimmed) || STARTS.iter().any(|start| trimmed.starts_with(start))
}

/// Rows from `at` on whose lines are numbered in sequence: 1, 2, 3 before the text.
fn numbered_from(page: &Page<'_>, rows: &[Row], at: usize) -> usize {
    let number = |row: &Row| {
        let text = row.text(page);
        text.split(' ')
            .next()
            .and_then(|word| word.parse::<u32>().ok())
    };
    let Some(first) = number(&rows[at]) else {
        return at;
    };
    let n = rows[at..]
        .iter()
        .zip(first..)
        .take_while(|(row, expected)| number(row) == Some(*expected))
        .count();
    at + n
}

/// Runs of rows that are code, as half-open ranges.
pub(crate) fn find(page: &Page<'_>, rows: &[Row]) -> Vec<std::ops::Range<usize>> {
    let scores: Vec<f32> = rows.iter().map(|row| likeness(&row.text(page))).collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < rows.len() {
        let numbered = numbered_from(page, rows, at);
        if numbered - at >= 3 && has_even_pitch(page, &rows[at..numbered]) {
            found.push(at..numbered);
            at = numbered;
            continue;
        }
        let end = run_from(page, rows, &scores, at);
        let n = end - at;
        let strong = scores[at..end]
            .iter()
            .filter(|&&score| score >= 0.5)
            .count();
        let statements = rows[at..end]
            .iter()
            .filter(|row| is_statement(&row.text(page)))
            .count();
        let reads_so = n >= 3 && statements * 2 >= n && strong * 4 >= n * 3;
        let is_even = has_even_pitch(page, &rows[at..end]);
        let is_code = is_even && statements * 3 >= n || reads_so;
        if n >= 2 && strong * 2 >= n && strong >= 2 && is_code {
            found.push(at..end);
            at = end;
        } else {
            at += 1;
        }
    }
    found
}

/// End of the stretch from `at` on that may be one listing: no wide gap, and never many lines
/// in a row that read as text.
fn run_from(page: &Page<'_>, rows: &[Row], scores: &[f32], at: usize) -> usize {
    if scores[at] < 0.3 {
        return at;
    }
    let (mut end, mut last_code) = (at + 1, at);
    while end < rows.len() {
        let gap = rows[end].rect.y0 - rows[end - 1].rect.y1;
        if gap > 1.6 * page.em || end - last_code > 2 {
            break;
        }
        if scores[end] >= 0.3 {
            last_code = end;
        }
        end += 1;
    }
    last_code + 1
}

/// Whether all characters are equally wide, as far as boxes can tell.
pub(crate) fn has_even_pitch(page: &Page<'_>, rows: &[Row]) -> bool {
    let pitches: Vec<f32> = rows.iter().flat_map(|row| pitches(page, row)).collect();
    let Some(middle) = median(pitches.iter().copied()) else {
        return false;
    };
    let even = pitches
        .iter()
        .filter(|&&pitch| (pitch / middle - 1.0).abs() < 0.06)
        .count();
    pitches.len() >= 2 && even * 10 >= pitches.len() * 7
}

/// Width of a character in each long piece of a row.
fn pitches(page: &Page<'_>, row: &Row) -> Vec<f32> {
    row.items
        .iter()
        .map(|&item| &page.items[item])
        .filter_map(|item| {
            let units = crate::chars::width_units(&item.text);
            (units >= 8.0).then(|| item.rect.width() / units)
        })
        .collect()
}

/// The rows as written: indentation and inner gaps in spaces.
pub(crate) fn listing(page: &Page<'_>, rows: &[Row]) -> Vec<String> {
    let pitch = median(rows.iter().flat_map(|row| pitches(page, row)))
        .unwrap_or(page.em * 0.5)
        .max(page.em * 0.2);
    let left = rows.iter().map(|row| row.rect.x0).fold(f32::MAX, f32::min);
    rows.iter()
        .map(|row| {
            let mut out = String::new();
            for &item in &row.items {
                let item = &page.items[item];
                let column = ((item.rect.x0 - left) / pitch).round().clamp(0.0, 200.0) as usize;
                let width = crate::chars::width_units(&out) as usize;
                let spaces = column
                    .saturating_sub(width)
                    .max(usize::from(!out.is_empty()));
                out.extend(std::iter::repeat_n(' ', spaces));
                out.push_str(&item.text);
            }
            out
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_reads_unlike_text() {
        for code in [
            "for (int i = 0; i < n; i++) {",
            "sudo apt install texlive-full;",
            "return x;",
            "\\usepackage{ctex}",
        ] {
            assert!(likeness(code) >= 0.5, "{code}: {}", likeness(code));
        }
        for text in [
            "Alice was beginning to get very tired",
            "see (Smith, 2015) for more",
            "的泥。不要着急",
        ] {
            assert!(likeness(text) < 0.5, "{text}: {}", likeness(text));
        }
    }
}
