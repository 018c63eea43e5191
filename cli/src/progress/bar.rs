//! The live bar: what is found while planning, then pages done of planned.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::{Phase, Snapshot, Speed, line};
use crate::logging::Screen;
use crate::output;
use crate::settings::Span;

const TICK: Duration = Duration::from_millis(120);

/// A bar on standard error.
#[derive(Debug)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// Draws an empty bar.
    pub(crate) fn start(screen: &Screen) -> Self {
        let bar = screen.show_bars().add(ProgressBar::new_spinner());
        bar.set_style(spinner_style());
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// Draws where the job stands.
    pub(crate) fn show(&self, snapshot: &Snapshot, speed: &Speed) {
        if snapshot.phase == Phase::Reading {
            // The words first: the bar is drawn at each of these calls.
            self.0.set_message(beside_the_bar(snapshot, speed));
            if self.0.length() != Some(snapshot.pages_planned) {
                self.0.set_length(snapshot.pages_planned);
                self.0.set_position(snapshot.pages_done);
                self.0.set_style(bar_style());
            }
            self.0.set_position(snapshot.pages_done);
        } else {
            self.0.set_style(spinner_style());
            self.0.unset_length();
            self.0.set_message(line(snapshot, speed));
        }
    }

    /// Takes the bar away.
    pub(crate) fn clear(self) {
        self.0.finish_and_clear();
    }
}

fn beside_the_bar(snapshot: &Snapshot, speed: &Speed) -> String {
    let rate = speed.recent().map_or_else(|| "-".to_owned(), output::rate);
    let left = snapshot.pages_planned.saturating_sub(snapshot.pages_done);
    let eta = speed
        .eta(left)
        .map_or_else(|| "-".to_owned(), |eta| Span(eta).to_string());
    let failed = output::grouped(snapshot.pages_failed);
    format!("{rate} pages/s  ETA {eta}  failed {failed}")
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:32} {human_pos}/{human_len} pages  {msg}")
        .expect("the template is a constant and drawn by a test")
        .progress_chars("█▉▊▋▌▍▎▏ ")
}

fn spinner_style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {msg}")
        .expect("the template is a constant and drawn by a test")
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use indicatif::{ProgressDrawTarget, TermLike};

    use super::*;

    /// Keeps what is drawn.
    #[derive(Debug, Clone, Default)]
    struct Paper(Arc<Mutex<String>>);

    impl TermLike for Paper {
        fn width(&self) -> u16 {
            120
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn bar_shows_done_planned_rate_eta_and_failed() {
        let paper = Paper::default();
        let target = ProgressDrawTarget::term_like(Box::new(paper.clone()));
        let bar = Bar(ProgressBar::with_draw_target(None, target));
        let planning = Snapshot {
            phase: Phase::Planning,
            ..Snapshot::for_test()
        };
        bar.show(&planning, &Speed::default());
        bar.0.force_draw();
        assert!(paper.0.lock().unwrap().contains("20 documents"));

        let mut speed = Speed::default();
        speed.observe(Duration::from_secs(0), 25);
        speed.observe(Duration::from_secs(10), 50);
        bar.show(&Snapshot::for_test(), &speed);
        bar.0.force_draw();
        let drawn = paper.0.lock().unwrap().clone();
        assert!(
            drawn.contains("50/100 pages  2.50 pages/s  ETA 20s  failed 2"),
            "{drawn}"
        );
    }
}
