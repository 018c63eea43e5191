//! The only way to standard output and, beside the log, to standard error. A reader that has
//! gone away (`quire files OUT | head`) ends the command quietly.

use std::io::{self, Write};

use serde::Serialize;

use crate::failure::{Failure, Outcome};

/// Prints data.
pub(crate) fn print(text: &str) -> Outcome<()> {
    write_all(text.as_bytes())
}

/// Prints one JSON value on one line.
pub(crate) fn print_json<T: Serialize>(value: &T) -> Outcome<()> {
    let mut line = serde_json::to_vec(value).map_err(anyhow::Error::from)?;
    line.push(b'\n');
    write_all(&line)
}

fn write_all(bytes: &[u8]) -> Outcome<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => {
            other.map_err(|error| Failure::from(error).context("cannot write to standard output"))
        }
    }
}

/// Tells people something that is neither data nor a log line.
pub(crate) fn tell(text: &str) {
    // When standard error is closed there is nobody to tell.
    drop(io::stderr().lock().write_all(text.as_bytes()));
}

/// `1,234,567`
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 page`, `2 pages`
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!(
        "{} {}",
        grouped(number),
        if number == 1 { one } else { many }
    )
}

/// A rate with as many digits as mean something.
pub(crate) fn rate(per_second: f64) -> String {
    if per_second >= 10.0 {
        format!("{per_second:.0}")
    } else {
        format!("{per_second:.2}")
    }
}

/// `text` on one line and at most `most` characters long.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    let flat: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if flat.chars().count() <= most {
        return flat;
    }
    let mut cut: String = flat.chars().take(most.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(counted(1, "page", "pages"), "1 page");
        assert_eq!(counted(2000, "page", "pages"), "2,000 pages");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(shortened("déjà  vu\nencore", 8), "déjà vu…");
        assert_eq!(shortened("short", 8), "short");
    }
}
