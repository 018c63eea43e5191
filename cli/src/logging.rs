//! Log lines on standard error, which give way to the live bar while one is drawn.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard};

use indicatif::{MultiProgress, ProgressDrawTarget};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::failure::{Failure, Outcome};
use crate::output;
use crate::settings::{LogFormat, LogSettings};
use crate::spans::Spans;

/// Standard error as bar and log share it.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    bars: MultiProgress,
    /// Lines that wait until a page that fills the terminal is gone.
    held: Arc<Mutex<Option<Vec<u8>>>>,
}

/// Most of a log that waits; what comes later is dropped.
const MOST_HELD_BYTES: usize = 256 << 10;

/// While this lives, log lines wait.
#[derive(Debug)]
pub(crate) struct Held(Screen);

impl Drop for Held {
    fn drop(&mut self) {
        let waiting = self.0.held().take().unwrap_or_default();
        // When standard error is closed there is nobody to tell.
        drop(io::stderr().lock().write_all(&waiting));
    }
}

impl Screen {
    /// A screen without bars.
    pub(crate) fn new() -> Self {
        Self {
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
            held: Arc::default(),
        }
    }

    /// Lets log lines wait, since a page fills the terminal.
    pub(crate) fn hold(&self) -> Held {
        self.held().get_or_insert_default();
        Held(self.clone())
    }

    fn held(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.held
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Lets bars be drawn from now on.
    pub(crate) fn show_bars(&self) -> &MultiProgress {
        self.bars.set_draw_target(ProgressDrawTarget::stderr());
        &self.bars
    }

    /// Tells people something while bars may be drawn.
    pub(crate) fn aside(&self, text: &str) {
        self.bars.suspend(|| output::tell(text));
    }

    /// Takes the bars away.
    pub(crate) fn hide_bars(&self) {
        self.bars.set_draw_target(ProgressDrawTarget::hidden());
    }
}

/// Starts logging; the first call of a process counts. Must be called within the runtime, which
/// sends spans.
pub(crate) fn start(settings: &LogSettings, screen: &Screen) -> Outcome<Spans> {
    let filter = EnvFilter::builder()
        .parse(&settings.level)
        .map_err(|error| Failure::usage(format!("`log.level`: {error}")))?;
    let spans = Spans::start(settings)?;
    let colored = io::IsTerminal::is_terminal(&io::stderr());
    let lines = fmt::layer()
        .with_writer(screen.clone())
        .with_ansi(colored && settings.format == LogFormat::Plain)
        .with_timer(Seconds);
    let lines = match settings.format {
        LogFormat::Plain => lines.with_target(false).boxed(),
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true);
            // The list of spans has the innermost one, too.
            lines.with_current_span(false).boxed()
        }
    };
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter));
    // Spans are for whoever looks for time: the level of the log does not thin them out.
    #[cfg(feature = "otlp")]
    let subscriber = {
        let only_ours =
            EnvFilter::new("quire_coordinator=debug,quire_worker=debug,quire_cli=debug");
        subscriber.with(crate::spans::layer(&spans).with_filter(only_ours))
    };
    // Tests start several commands in one process: the first one's log serves all.
    drop(subscriber.try_init());
    Ok(spans)
}

/// UTC to the second.
struct Seconds;

impl FormatTime for Seconds {
    fn format_time(&self, w: &mut Writer<'_>) -> std::fmt::Result {
        write!(
            w,
            "{}",
            jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ")
        )
    }
}

impl<'a> MakeWriter<'a> for Screen {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter {
            screen: self,
            line: Vec::new(),
        }
    }
}

/// Holds one event until it is whole: bars are taken away once for each, not for each word.
#[derive(Debug)]
pub(crate) struct LineWriter<'a> {
    screen: &'a Screen,
    line: Vec<u8>,
}

impl Write for LineWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.line.is_empty() {
            return Ok(());
        }
        let line = std::mem::take(&mut self.line);
        if let Some(held) = self.screen.held().as_mut() {
            if held.len() + line.len() <= MOST_HELD_BYTES {
                held.extend_from_slice(&line);
            }
            return Ok(());
        }
        self.screen
            .bars
            .suspend(|| io::stderr().lock().write_all(&line))
    }
}

impl Drop for LineWriter<'_> {
    fn drop(&mut self) {
        // A log that cannot be written has nobody to be told to.
        drop(self.flush());
    }
}
