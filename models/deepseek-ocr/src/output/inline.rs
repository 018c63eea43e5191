//! Running text as the model writes it: white space put right, marks of layout taken out.

use super::markers::without_markers;

/// Commands that stand for what a font of the model's training lacked.
const COMMANDS: [(&str, &str); 2] = [("\\coloneqq", ":="), ("\\eqqcolon", "=:")];
/// Captions are centered, which says nothing of their text.
const CENTER: [&str; 2] = ["<center>", "</center>"];

/// Text without markers and control characters; no white space at the ends of lines, no two empty
/// lines in a row, none at either end.
pub(super) fn tidy(text: &str) -> String {
    let mut text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.retain(|c| !c.is_control() || matches!(c, '\n' | '\t'));
    for tag in CENTER {
        text = text.replace(tag, "");
    }
    for (command, symbol) in COMMANDS {
        text = text.replace(command, symbol);
    }
    let text = without_markers(&text);
    let mut out = String::with_capacity(text.len());
    let mut n_empty = 0;
    for line in text.lines().map(str::trim_end) {
        if line.is_empty() {
            n_empty += 1;
            continue;
        }
        if !out.is_empty() {
            out.push_str(if n_empty > 0 { "\n\n" } else { "\n" });
            out.push_str(line);
        } else {
            out.push_str(line.trim_start());
        }
        n_empty = 0;
    }
    out
}

/// Text without the marks of bold type.
pub(super) fn without_bold(text: &str) -> String {
    let lines = text.split('\n').map(|line| {
        let parts: Vec<&str> = line.split("**").collect();
        // Pairs that hug their text, so that a power or a footnote's stars stay.
        let are_pairs = parts.len() % 2 == 1
            && parts
                .iter()
                .skip(1)
                .step_by(2)
                .all(|bold| !bold.is_empty() && bold.trim() == *bold && !bold.starts_with('*'));
        if are_pairs {
            parts.concat()
        } else {
            line.to_owned()
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_and_marks_are_put_right() {
        for (text, expected) in [
            ("\n\n  a  \r\n\n\n\n b\t\n\n", "a\n\n b"),
            ("<center>Figure 1</center>", "Figure 1"),
            ("x \\coloneqq 3 \\eqqcolon y", "x := 3 =: y"),
            ("a\u{0}b\u{7}c", "abc"),
            ("<|re\u{1}f|>", ""),
            (" \n ", ""),
        ] {
            assert_eq!(tidy(text), expected, "{text:?}");
        }
    }

    #[test]
    fn bold_type_leaves_its_text() {
        assert_eq!(without_bold("**Abstract** of **it**"), "Abstract of it");
        assert_eq!(without_bold("2**3 and ** b"), "2**3 and ** b");
        assert_eq!(without_bold("**open\n**"), "**open\n**");
    }
}
