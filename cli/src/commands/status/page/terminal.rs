//! The terminal while the page is on it. However the page ends, by a key, an error, a signal or
//! a panic, the terminal is given back as it was.

use std::io;

use ratatui::{DefaultTerminal, Frame};

/// A terminal in raw mode, on its other screen.
#[derive(Debug)]
pub(super) struct Terminal(DefaultTerminal);

impl Terminal {
    /// Takes the terminal over; a panic gives it back before it is told.
    pub(super) fn enter() -> io::Result<Self> {
        Ok(Self(ratatui::try_init()?))
    }

    /// Draws one picture.
    pub(super) fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.0.draw(picture).map(|_| ())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that is gone cannot be given back.
        drop(ratatui::try_restore());
    }
}
