//! Formulas in text: `\( \)` and `\[ \]` as the model writes them, `$` and `$$` as Markdown has
//! them.

/// A stretch of text with formulas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Span {
    Text(String),
    /// LaTeX, on one line.
    Inline(String),
    /// LaTeX, without empty lines.
    Display(String),
}

/// Cuts a text at its formulas. One in a line must be closed to count; one that is set off may
/// have been cut off at the end of the text.
pub(super) fn spans(text: &str) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some((at, is_display)) = opening(rest) {
        let body = &rest[at + 2..];
        let close = closing(body, is_display);
        let Some(end) = close.or(is_display.then_some(body.len())) else {
            plain.push_str(&rest[..at + 2]);
            rest = body;
            continue;
        };
        plain.push_str(&rest[..at]);
        let latex = latex(&body[..end], is_display);
        if !latex.is_empty() {
            if !plain.is_empty() {
                spans.push(Span::Text(std::mem::take(&mut plain)));
            }
            spans.push(if is_display {
                Span::Display(latex)
            } else {
                Span::Inline(latex)
            });
        }
        rest = body.get(end + 2..).unwrap_or_default();
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        spans.push(Span::Text(plain));
    }
    spans
}

/// The first opening delimiter, and whether it sets the formula off.
fn opening(text: &str) -> Option<(usize, bool)> {
    escapes(text).find_map(|(at, c)| match c {
        b'(' => Some((at, false)),
        b'[' => Some((at, true)),
        _ => None,
    })
}

fn closing(text: &str, is_display: bool) -> Option<usize> {
    let wanted = if is_display { b']' } else { b')' };
    escapes(text).find_map(|(at, c)| (c == wanted).then_some(at))
}

/// Backslashes with the byte behind each, two at a time: of `\\[` the bracket is not escaped.
fn escapes(text: &str) -> impl Iterator<Item = (usize, u8)> + '_ {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at + 1 < bytes.len() {
            let here = at;
            if bytes[here] == b'\\' {
                at += 2;
                return Some((here, bytes[here + 1]));
            }
            at += 1;
        }
        None
    })
}

/// The inside of a formula: no dollar that would end it, no empty line that would break it.
fn latex(body: &str, is_display: bool) -> String {
    let lines = body.lines().map(str::trim).filter(|line| !line.is_empty());
    let joined = lines
        .collect::<Vec<_>>()
        .join(if is_display { "\n" } else { " " });
    escaped_dollars(&joined)
}

/// Dollars with a backslash, where they have none.
fn escaped_dollars(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut is_escaped = false;
    for c in text.chars() {
        if c == '$' && !is_escaped {
            out.push('\\');
        }
        is_escaped = c == '\\' && !is_escaped;
        out.push(c);
    }
    out
}

/// Whether any of the spans is a formula.
pub(super) fn has_formula(spans: &[Span]) -> bool {
    spans.iter().any(|span| !matches!(span, Span::Text(_)))
}

/// The spans as Markdown. A formula that is set off stands on lines of its own.
pub(super) fn markdown(spans: &[Span]) -> String {
    let has_formula = has_formula(spans);
    write(spans, |text| {
        let text = escaped_images(text);
        if has_formula {
            escaped_dollars(&text)
        } else {
            text
        }
    })
}

/// The spans as plain text: the same without escapes.
pub(super) fn plain(spans: &[Span]) -> String {
    write(spans, str::to_owned)
}

fn write(spans: &[Span], text_as: impl Fn(&str) -> String) -> String {
    let mut out = String::new();
    for span in spans {
        match span {
            Span::Text(text) => {
                let text = text_as(text);
                let is_after_display = out.ends_with("\n$$");
                if is_after_display && !text.starts_with('\n') {
                    out.push('\n');
                }
                let text = if is_after_display {
                    text.trim_start_matches([' ', '\t'])
                } else {
                    &text
                };
                out.push_str(text);
            }
            Span::Inline(latex) => {
                if out.ends_with("\n$$") {
                    out.push('\n');
                }
                out.push('$');
                out.push_str(latex);
                out.push('$');
            }
            Span::Display(latex) => {
                out.truncate(out.trim_end_matches([' ', '\t']).len());
                if !out.is_empty() && !out.ends_with('\n') {
                    out.push('\n');
                }
                out.push_str("$$\n");
                out.push_str(latex);
                out.push_str("\n$$");
            }
        }
    }
    out
}

/// `![` with a backslash, so that only pictures of the page are pictures.
fn escaped_images(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut is_escaped = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '!' && !is_escaped && chars.peek() == Some(&'[') {
            out.push('\\');
        }
        is_escaped = c == '\\' && !is_escaped;
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(markdown(&spans(text)), expected, "{text}");
    }

    #[test]
    fn delimiters_become_those_of_markdown() {
        check(r"so \( x^2 \) is", "so $x^2$ is");
        check(r"\[ a = b \]", "$$\na = b\n$$");
        check(r"so \[ a = b \] holds", "so\n$$\na = b\n$$\nholds");
        check(
            "x\n\\[\na\n\n\\\\[2pt] b\n\\]\ny",
            "x\n$$\na\n\\\\[2pt] b\n$$\ny",
        );
        check(r"\(a\)\[b\]\(c\)", "$a$\n$$\nb\n$$\n$c$");
        check(r"empty \(\) one", "empty  one");
    }

    #[test]
    fn dollars_beside_formulas_are_escaped() {
        check(r"$5 for \(n\) and \$6", r"\$5 for $n$ and \$6");
        check("$5 or $6", "$5 or $6");
        check(r"\(\text{$5}\)", r"$\text{\$5}$");
    }

    #[test]
    fn cut_formulas_lose_nothing() {
        check(r"so \( x", r"so \( x");
        check(r"\[ x + ", "$$\nx +\n$$");
        check(r"a \) b \] c \", r"a \) b \] c \");
        check(r"\\( not one \\)", r"\\( not one \\)");
    }

    #[test]
    fn only_pictures_are_pictures() {
        check("![](#0) a", "\\![](#0) a");
        check("a \\![](x)", "a \\![](x)");
        assert_eq!(plain(&spans("![](#0)")), "![](#0)");
    }
}
