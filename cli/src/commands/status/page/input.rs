//! Keys, from a thread that waits for them: the terminal has no other way to be waited for.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

/// Keys that wait to be taken; more than anybody types ahead.
const AHEAD: usize = 32;
/// How long the thread lives on after the page.
const PATIENCE: Duration = Duration::from_millis(100);

/// What somebody did at the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    Up,
    Down,
    PageUp,
    PageDown,
    /// Pause what runs, resume what is paused.
    Pause,
    Yes,
    No,
    /// The page has another size now: it is only drawn anew.
    Resized,
}

/// Keys as they are pressed.
#[derive(Debug)]
pub(super) struct Input {
    keys: mpsc::Receiver<Key>,
    stop: Arc<AtomicBool>,
}

impl Input {
    /// Starts listening.
    pub(super) fn start() -> io::Result<Self> {
        let (sender, keys) = mpsc::channel(AHEAD);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::Builder::new()
            .name("keys".to_owned())
            .spawn(move || listen(&sender, &stopped))?;
        Ok(Self { keys, stop })
    }

    /// The next key; `None` when the terminal is gone.
    pub(super) async fn next(&mut self) -> Option<Key> {
        self.keys.recv().await
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn listen(keys: &mpsc::Sender<Key>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let key = match event::poll(PATIENCE) {
            Ok(false) => continue,
            Ok(true) => event::read().map(|event| meaning(&event)),
            Err(error) => Err(error),
        };
        match key {
            Ok(Some(key)) if keys.blocking_send(key).is_err() => return,
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

fn meaning(event: &Event) -> Option<Key> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => meaning_of_key(*key),
        Event::Resize(..) => Some(Key::Resized),
        _ => None,
    }
}

fn meaning_of_key(key: KeyEvent) -> Option<Key> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return matches!(key.code, KeyCode::Char('c' | 'd')).then_some(Key::Quit);
    }
    match key.code {
        KeyCode::Char('q') => Some(Key::Quit),
        KeyCode::Up | KeyCode::Char('k') => Some(Key::Up),
        KeyCode::Down | KeyCode::Char('j') => Some(Key::Down),
        KeyCode::PageUp => Some(Key::PageUp),
        KeyCode::PageDown | KeyCode::Char(' ') => Some(Key::PageDown),
        KeyCode::Char('p') => Some(Key::Pause),
        KeyCode::Char('y') | KeyCode::Enter => Some(Key::Yes),
        KeyCode::Char('n') | KeyCode::Esc => Some(Key::No),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_the_foot_of_the_page_says() {
        let press = |code, modifiers| meaning(&Event::Key(KeyEvent::new(code, modifiers)));
        let plain = |code| press(code, KeyModifiers::NONE);
        assert_eq!(plain(KeyCode::Char('q')), Some(Key::Quit));
        assert_eq!(plain(KeyCode::Down), Some(Key::Down));
        assert_eq!(plain(KeyCode::Char('p')), Some(Key::Pause));
        assert_eq!(plain(KeyCode::Esc), Some(Key::No));
        assert_eq!(plain(KeyCode::Char('x')), None);
        let control = press(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(control, Some(Key::Quit));
        assert_eq!(press(KeyCode::Char('p'), KeyModifiers::CONTROL), None);
        assert_eq!(meaning(&Event::Resize(80, 24)), Some(Key::Resized));
    }
}
