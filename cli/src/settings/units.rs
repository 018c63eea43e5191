//! Sizes and durations as people write them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// Bytes, written `64 MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub u64);

/// A length of time, written `30s` or `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(pub Duration);

const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

const SPAN_UNITS: [(&str, f64); 6] = [
    ("ms", 0.001),
    ("s", 1.0),
    ("m", 60.0),
    ("min", 60.0),
    ("h", 3600.0),
    ("d", 86_400.0),
];

impl Size {
    /// Reads `64 MiB`, `1.5GB` or `4096 B`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no size; write it like \"64 MiB\"");
        let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
        let unit = if unit.is_empty() && number == 0.0 {
            "B"
        } else {
            unit
        };
        let found = SIZE_UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit));
        let &(_, factor) = found.ok_or_else(wrong)?;
        let bytes = number * factor as f64;
        if bytes < u64::MAX as f64 {
            Ok(Self(bytes.round() as u64))
        } else {
            Err(wrong())
        }
    }
}

impl Span {
    /// Reads `500ms`, `30s`, `5m` or `1h 30m`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no duration; write it like \"30s\" or \"1h 30m\"");
        let mut seconds = 0.0;
        let mut rest = text.trim();
        while !rest.is_empty() {
            let unit_at = rest
                .find(|c: char| c.is_ascii_alphabetic())
                .ok_or_else(wrong)?;
            let unit_end = rest[unit_at..]
                .find(|c: char| !c.is_ascii_alphabetic())
                .map_or(rest.len(), |length| unit_at + length);
            let (number, unit) = number_and_unit(&rest[..unit_end]).ok_or_else(wrong)?;
            let found = SPAN_UNITS.iter().find(|(name, _)| *name == unit);
            let &(_, factor) = found.ok_or_else(wrong)?;
            seconds += number * factor;
            rest = rest[unit_end..].trim_start();
        }
        if text.trim().is_empty() {
            return Err(wrong());
        }
        Duration::try_from_secs_f64(seconds)
            .map(Self)
            .map_err(|_| wrong())
    }
}

fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_')
        .unwrap_or(text.len());
    let number: f64 = text[..end].replace('_', "").parse().ok()?;
    number.is_finite().then_some((number, text[end..].trim()))
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fitting = SIZE_UNITS[..5]
            .iter()
            .rev()
            .find(|(_, factor)| self.0 >= *factor);
        let &(unit, factor) = fitting.unwrap_or(&SIZE_UNITS[0]);
        if self.0.is_multiple_of(factor) {
            write!(f, "{} {unit}", self.0 / factor)
        } else {
            write!(f, "{:.1} {unit}", self.0 as f64 / factor as f64)
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
            (0, 0, 0) => write!(f, "{}ms", self.0.as_millis()),
            (0, 0, _) if seconds < 10 => write!(f, "{:.1}s", self.0.as_secs_f64()),
            (0, 0, s) => write!(f, "{s}s"),
            (0, m, s) => write!(f, "{m}m {s:02}s"),
            (h, m, _) => write!(f, "{h}h {m:02}m"),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("64 MiB", 64 << 20),
            ("2GiB", 2 << 30),
            ("1.5 kB", 1500),
            ("1_000 B", 1000),
            ("0", 0),
            ("7 mib", 7 << 20),
        ] {
            assert_eq!(Size::parse(text), Ok(Size(bytes)), "{text}");
        }
        for text in [
            "",
            "MiB",
            "12",
            "12 parsecs",
            "-1 MiB",
            "9999999999 TiB",
            "1.2.3 B",
        ] {
            assert!(Size::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, ms) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            ("0.5 s", 500),
        ] {
            assert_eq!(
                Span::parse(text),
                Ok(Span(Duration::from_millis(ms))),
                "{text}"
            );
        }
        for text in ["", " ", "30", "s", "30 parsecs", "-1s", "1h 30", "9e9s"] {
            assert!(Span::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_and_durations_are_printed_short() {
        assert_eq!(Size(2 << 30).to_string(), "2 GiB");
        assert_eq!(Size(1_572_864).to_string(), "1.5 MiB");
        assert_eq!(Span(Duration::from_secs(5400)).to_string(), "1h 30m");
        assert_eq!(Span(Duration::from_millis(2500)).to_string(), "2.5s");
        assert_eq!(Span(Duration::from_secs(75)).to_string(), "1m 15s");
    }
}
