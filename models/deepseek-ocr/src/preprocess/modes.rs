//! The published modes by name, and how many slots of the prompt a page takes in them.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::{Grid, Mode, PATCH, PATCHES_PER_CELL};
use crate::config::Architecture;

/// Most tiles of a page, as in the paper; the published server helper uses 6.
const MAX_TILES: u32 = 9;
const MAX_TILES_OF_SECOND: u32 = 6;

/// A mode that the model does not have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no mode {name:?}; this model has {}", .known.join(", "))]
pub struct UnknownMode {
    pub name: String,
    pub known: &'static [&'static str],
}

impl Mode {
    /// One view of 512: 64 vision tokens.
    pub const fn tiny() -> Self {
        Self::single(512)
    }

    /// One view of 640: 100 vision tokens.
    pub const fn small() -> Self {
        Self::single(640)
    }

    /// One view of 1024: 256 vision tokens.
    pub const fn base() -> Self {
        Self::single(1024)
    }

    /// One view of 1280: 400 vision tokens.
    pub const fn large() -> Self {
        Self::single(1280)
    }

    /// A view of 1024 and up to nine tiles of 640. What the model is used with by default.
    pub const fn gundam() -> Self {
        Self::tiled(1024, 640)
    }

    /// A view of 1280 and up to nine tiles of 1024. The paper's figures for it come from further
    /// training: the published weights read worse in it than in [`Self::gundam`].
    pub const fn gundam_m() -> Self {
        Self::tiled(1280, 1024)
    }

    /// The second model's only mode: a view of 1024 and up to six tiles of 768.
    pub const fn second() -> Self {
        Self {
            base_size: 1024,
            image_size: 768,
            crop: true,
            max_tiles: MAX_TILES_OF_SECOND,
            tile_threshold: 768,
        }
    }

    const fn single(side: u32) -> Self {
        Self {
            base_size: side,
            image_size: side,
            crop: false,
            max_tiles: 1,
            tile_threshold: 640,
        }
    }

    const fn tiled(base_size: u32, image_size: u32) -> Self {
        Self {
            base_size,
            image_size,
            crop: true,
            max_tiles: MAX_TILES,
            // The literal, whatever the tile's side.
            tile_threshold: 640,
        }
    }

    /// The names that a model's modes go by, from few vision tokens to many.
    pub const fn names(architecture: Architecture) -> &'static [&'static str] {
        match architecture {
            Architecture::One => &["tiny", "small", "base", "large", "gundam", "gundam-m"],
            Architecture::Two => &["gundam"],
        }
    }

    /// The mode of a model by its name. The second model's only mode is called `gundam`, too: it
    /// is the same cut in other sizes.
    ///
    /// # Errors
    /// For a name that is not among [`Self::names`]; the error lists them.
    pub fn named(name: &str, architecture: Architecture) -> Result<Self, UnknownMode> {
        match (architecture, name) {
            (Architecture::One, "tiny") => Ok(Self::tiny()),
            (Architecture::One, "small") => Ok(Self::small()),
            (Architecture::One, "base") => Ok(Self::base()),
            (Architecture::One, "large") => Ok(Self::large()),
            (Architecture::One, "gundam") => Ok(Self::gundam()),
            (Architecture::One, "gundam-m") => Ok(Self::gundam_m()),
            (Architecture::Two, "gundam") => Ok(Self::second()),
            _ => Err(UnknownMode {
                name: name.to_owned(),
                known: Self::names(architecture),
            }),
        }
    }

    /// The name of the mode; `custom` for sizes that none of the published ones has.
    pub fn name(&self) -> &'static str {
        match (self.crop, self.base_size, self.image_size) {
            (false, 512, _) => "tiny",
            (false, 640, _) => "small",
            (false, 1024, _) => "base",
            (false, 1280, _) => "large",
            (true, 1024, 640 | 768) => "gundam",
            (true, 1280, 1024) => "gundam-m",
            _ => "custom",
        }
    }

    /// The same mode with another limit of tiles, at least 2.
    pub const fn with_max_tiles(self, max_tiles: u32) -> Self {
        Self {
            max_tiles: if max_tiles < 2 { 2 } else { max_tiles },
            ..self
        }
    }

    /// Slots of the prompt that a page of this grid takes: its vision tokens with newlines and
    /// separator in the first model, with the separator alone in the second.
    pub const fn slots(&self, grid: Grid, architecture: Architecture) -> usize {
        let global = cells(self.base_size);
        let tile = cells(self.image_size);
        let (columns, rows) = (grid.columns as usize, grid.rows as usize);
        let has_tiles = grid.has_tiles();
        match architecture {
            Architecture::One => {
                let local = if has_tiles {
                    rows * tile * (columns * tile + 1)
                } else {
                    0
                };
                local + global * (global + 1) + 1
            }
            Architecture::Two => {
                let local = if has_tiles {
                    rows * columns * tile * tile
                } else {
                    0
                };
                local + global * global + 1
            }
        }
    }

    /// The most slots that any page takes in this mode.
    pub fn most_slots(&self, architecture: Architecture) -> usize {
        let without = self.slots(Grid::NONE, architecture);
        if !self.crop {
            return without;
        }
        // One column of tiles has the most newlines.
        let tall = Grid {
            columns: 1,
            rows: self.max_tiles,
        };
        self.slots(tall, architecture).max(without)
    }

    /// The vision tokens that papers count: grid vectors without newlines and separator.
    pub const fn vision_tokens(&self, grid: Grid) -> usize {
        let global = cells(self.base_size);
        let tile = cells(self.image_size);
        let tiles = if grid.has_tiles() { grid.tiles() } else { 0 };
        global * global + tiles * tile * tile
    }
}

/// Side of the compressed grid of a view.
const fn cells(side: u32) -> usize {
    (side / PATCH).div_ceil(PATCHES_PER_CELL) as usize
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The first model's modes.
impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(name: &str) -> Result<Self, UnknownMode> {
        Self::named(name, Architecture::One)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(columns: u32, rows: u32) -> Grid {
        Grid { columns, rows }
    }

    #[test]
    fn slots_are_those_of_the_published_tables() {
        for (mode, slots) in [
            (Mode::tiny(), 73),
            (Mode::small(), 111),
            (Mode::base(), 273),
            (Mode::large(), 421),
            (Mode::gundam(), 273),
            (Mode::gundam_m(), 421),
        ] {
            assert_eq!(mode.slots(Grid::NONE, Architecture::One), slots, "{mode}");
        }
        for (columns, rows, slots) in [
            (1, 2, 493),
            (2, 1, 483),
            (2, 3, 903),
            (3, 2, 893),
            (1, 9, 1263),
            (9, 1, 1183),
            (3, 3, 1203),
        ] {
            let of = Mode::gundam().slots(grid(columns, rows), Architecture::One);
            assert_eq!(of, slots, "{columns} by {rows}");
        }
        assert_eq!(Mode::gundam().most_slots(Architecture::One), 1263);
        for (columns, rows, slots) in [(1, 1, 257), (2, 1, 545), (2, 3, 1121)] {
            let of = Mode::second().slots(grid(columns, rows), Architecture::Two);
            assert_eq!(of, slots, "{columns} by {rows}");
        }
        assert_eq!(Mode::second().most_slots(Architecture::Two), 1121);
    }

    #[test]
    fn vision_tokens_leave_out_newlines() {
        assert_eq!(Mode::tiny().vision_tokens(Grid::NONE), 64);
        assert_eq!(Mode::large().vision_tokens(Grid::NONE), 400);
        assert_eq!(Mode::gundam().vision_tokens(grid(2, 3)), 856);
        assert_eq!(Mode::second().vision_tokens(grid(2, 3)), 1120);
    }

    #[test]
    fn names_lead_to_modes_and_back() {
        for architecture in [Architecture::One, Architecture::Two] {
            for &name in Mode::names(architecture) {
                let mode = Mode::named(name, architecture).unwrap();
                assert_eq!(mode.to_string(), name);
            }
        }
        assert_eq!("large".parse(), Ok(Mode::large()));
        assert_eq!(Mode::gundam().with_max_tiles(6).name(), "gundam");
    }

    #[test]
    fn unknown_name_is_answered_with_the_known_ones() {
        let error = "huge".parse::<Mode>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "no mode \"huge\"; this model has tiny, small, base, large, gundam, gundam-m"
        );
        let error = Mode::named("tiny", Architecture::Two).unwrap_err();
        assert_eq!(error.to_string(), "no mode \"tiny\"; this model has gundam");
    }
}
