//! What a comparison found.

use std::fmt;

/// One value or series of values that was compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Case and stage, such as `base/global.sam_out`.
    pub name: String,
    /// The largest difference; of integers, how many differ. Infinite when there is nothing to
    /// compare with.
    pub difference: f64,
    /// The largest difference that passes.
    pub tolerance: f64,
    /// What else there is to say.
    pub note: Option<String>,
}

impl Row {
    /// Compares floats.
    pub(super) fn floats(name: String, wanted: &[f32], found: &[f32], tolerance: f64) -> Self {
        if wanted.len() != found.len() {
            return Self::other_length(name, wanted.len(), found.len(), tolerance);
        }
        let difference = wanted.iter().zip(found).fold(0.0, |largest: f64, pair| {
            let difference = (f64::from(*pair.0) - f64::from(*pair.1)).abs();
            // What is no number is as far away as can be.
            match difference.is_nan() {
                true => f64::INFINITY,
                false => largest.max(difference),
            }
        });
        Self {
            name,
            difference,
            tolerance,
            note: None,
        }
    }

    /// Compares integers, which must be equal.
    pub(super) fn integers(name: String, wanted: &[i64], found: &[i64]) -> Self {
        if wanted.len() != found.len() {
            return Self::other_length(name, wanted.len(), found.len(), 0.0);
        }
        let differing = || (0..wanted.len()).filter(|&index| wanted[index] != found[index]);
        let note = differing().next().map(|first| {
            let (wanted, found) = (wanted[first], found[first]);
            format!("first at {first}: {found}, not {wanted}")
        });
        Self {
            name,
            difference: differing().count() as f64,
            tolerance: 0.0,
            note,
        }
    }

    /// Nothing was found to compare.
    pub(super) fn missing(name: String, tolerance: f64, why: &str) -> Self {
        Self {
            name,
            difference: f64::INFINITY,
            tolerance,
            note: Some(why.to_owned()),
        }
    }

    fn other_length(name: String, wanted: usize, found: usize, tolerance: f64) -> Self {
        Self::missing(name, tolerance, &format!("{found} values, not {wanted}"))
    }

    /// Whether the difference passes.
    pub fn ok(&self) -> bool {
        self.difference <= self.tolerance
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.ok() { "ok" } else { "DIFFERS" };
        let Self {
            name,
            difference,
            tolerance,
            note,
        } = self;
        write!(
            f,
            "{name:<44} {difference:>10.2e} {tolerance:>9.0e}  {verdict}"
        )?;
        match note {
            Some(note) => write!(f, "  ({note})"),
            None => Ok(()),
        }
    }
}

/// All rows of a comparison.
#[derive(Debug, Clone, Default)]
pub struct Report {
    pub rows: Vec<Row>,
}

impl Report {
    /// Whether there is something, and all of it passes.
    pub fn ok(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(Row::ok)
    }

    /// Rows that do not pass.
    pub fn differing(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| !row.ok())
    }

    /// Adds the rows of a folder inside this one's.
    pub(super) fn extend(&mut self, folder: &str, other: Self) {
        self.rows.extend(other.rows.into_iter().map(|row| Row {
            name: format!("{folder}/{}", row.name),
            ..row
        }));
    }

    pub(super) fn push(&mut self, row: Row) {
        self.rows.push(row);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<44} {:>10} {:>9}", "stage", "difference", "tolerance")?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        let differing = self.differing().count();
        write!(f, "{} compared, {differing} differ", self.rows.len())
    }
}
