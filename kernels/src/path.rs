//! Which instructions are used: found out once when the program runs, or asked for.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use crate::vectors::Vectors;

/// Sets of instructions that there is code for, the widest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Path {
    /// AVX-512, and tiles of bf16 for matrices that may be rounded.
    Amx,
    /// AVX-512, and with VNNI fixed point for matrices that may be rounded.
    Avx512,
    /// AVX2 with FMA, and fixed point for matrices that may be rounded.
    Avx2,
    /// What every CPU of this architecture has.
    Portable,
}

impl Path {
    /// All of them, the widest first.
    pub const ALL: [Self; 4] = [Self::Amx, Self::Avx512, Self::Avx2, Self::Portable];

    /// Those that this CPU and its system have, the widest first.
    pub fn of_this_cpu() -> Vec<Self> {
        let has = |path: &Self| Vectors::of(*path).is_some();
        Self::ALL.into_iter().filter(has).collect()
    }

    /// As it is asked for.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amx => "amx",
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(name: &str) -> Result<Self, PathError> {
        let found = Self::ALL.into_iter().find(|path| path.name() == name);
        found.ok_or_else(|| PathError::Unknown(name.to_owned()))
    }
}

/// Why a path is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathError {
    /// No path has this name.
    Unknown(String),
    /// This CPU, or its system, has not got what the path needs.
    Lacking(Path),
    /// Another one is in use already.
    Chosen(Path),
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => {
                let all = Path::ALL.map(Path::name).join(", ");
                write!(f, "there is no CPU path `{name}`: it is one of {all}")
            }
            Self::Lacking(path) => {
                let has: Vec<&str> = Path::of_this_cpu().into_iter().map(Path::name).collect();
                write!(f, "this CPU lacks {path}: it has {}", has.join(", "))
            }
            Self::Chosen(path) => write!(f, "the CPU path {path} is in use already"),
        }
    }
}

impl std::error::Error for PathError {}

static CHOSEN: OnceLock<Vectors> = OnceLock::new();

/// Takes this path for the whole process. To be called before anything is computed: what is packed
/// or computed first takes the widest path.
///
/// # Errors
/// When the CPU lacks the path or another one is in use.
pub fn choose(path: Path) -> Result<(), PathError> {
    let vectors = Vectors::of(path).ok_or(PathError::Lacking(path))?;
    match CHOSEN.get_or_init(|| vectors).path() {
        taken if taken == path => Ok(()),
        taken => Err(PathError::Chosen(taken)),
    }
}

/// See [`Vectors::chosen`].
#[inline]
pub(crate) fn chosen() -> Vectors {
    *CHOSEN.get_or_init(Vectors::widest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for path in Path::ALL {
            assert_eq!(path.to_string().parse(), Ok(path));
        }
        let error = "sse".parse::<Path>().unwrap_err();
        assert!(error.to_string().contains("portable"), "{error}");
    }

    #[test]
    fn every_cpu_has_some_path() {
        let has = Path::of_this_cpu();
        assert_eq!(has.last(), Some(&Path::Portable));
        for path in Path::ALL {
            assert_eq!(Vectors::of(path).is_some(), has.contains(&path), "{path}");
            if !has.contains(&path) {
                assert_eq!(choose(path), Err(PathError::Lacking(path)));
                let message = PathError::Lacking(path).to_string();
                assert!(message.contains("it has"), "{message}");
            }
        }
    }
}
