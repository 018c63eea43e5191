//! The child's side: reads requests from stdin, decodes what nobody trusts, answers on stdout.
//!
//! Three threads: the first waits; one reads requests, so that the end of stdin, which means the
//! end of the parent, ends the process even in the middle of a page; one decodes, on a large stack
//! and behind `catch_unwind`. Memory, time and broken walls are the parent's business.

mod frame;
mod image;
mod metadata;
mod pdf;
mod sandbox;
mod shrink;
mod tiff;

use std::any::Any;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use quire_core::{RenderSpec, Stage, Trouble, TroubleCode};

use self::frame::Frame;
use super::fonts::FontShelf;
use super::wire::{Answer, ChildSettings, OpenedInfo, PageHead, Request, read_frame, write_frame};

/// Nested objects of a document are walked by recursion.
const STACK_BYTES: usize = 64 << 20;

type Asked = (Request, Vec<u8>);

/// Where the message of a caught panic waits for the answer that carries it.
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// What the hidden `render-child` command runs: serves one parent until it closes stdin.
pub fn render_child_main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Stderr is what the parent reads when a child ends early.
            let mut stderr = io::stderr();
            drop(writeln!(stderr, "render child: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    let mut requests = BufReader::new(File::from(io::stdin().as_fd().try_clone_to_owned()?));
    let mut answers = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let Some((Request::Start(settings), _)) = read_frame(&mut requests)? else {
        return Err(io::Error::other(
            "this command serves `quire` itself and is not for people",
        ));
    };
    std::panic::set_hook(Box::new(|info| {
        let message = info.payload_as_str().unwrap_or("no message");
        let place = info
            .location()
            .map_or_else(String::new, |at| format!(" at {at}"));
        *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = format!("{message}{place}");
    }));
    let fonts = Arc::new(FontShelf::open(settings.fonts.clone()));
    let status = sandbox::enter(&settings, fonts.n_files());
    write_frame(&mut answers, &Answer::Started(status), &[])?;

    let (ask, asked) = sync_channel(1);
    thread::Builder::new()
        .name("read".into())
        .spawn(move || read_requests(requests, &ask))?;
    let decode = move || decode_loop(&asked, &mut answers, &settings, &fonts);
    let decoder = thread::Builder::new()
        .name("decode".into())
        .stack_size(STACK_BYTES);
    decoder
        .spawn(decode)?
        .join()
        .map_err(|_| io::Error::other("the decoder panicked"))?
}

/// Hands requests to the decoder; ends the process when the parent is gone.
fn read_requests(mut from: impl io::Read, ask: &SyncSender<Asked>) {
    while let Ok(Some(asked)) = read_frame(&mut from) {
        if ask.send(asked).is_err() {
            return;
        }
    }
    #[expect(
        clippy::exit,
        reason = "the decoder may be deep in a page, and nobody waits for it"
    )]
    std::process::exit(0);
}

/// A document that is open, or none.
enum Opened {
    Pdf(pdf::PdfDocument),
    Image(image::ImageDocument),
    Tiff(tiff::TiffDocument),
}

fn decode_loop(
    asked: &Receiver<Asked>,
    answers: &mut File,
    settings: &ChildSettings,
    fonts: &Arc<FontShelf>,
) -> io::Result<()> {
    let mut next = None;
    loop {
        let Some((request, bytes)) = next.take().or_else(|| asked.recv().ok()) else {
            return Ok(());
        };
        let opened = match request {
            Request::Open { media_type } => {
                guarded(Stage::Open, || open(&media_type, bytes, settings, fonts))
            }
            Request::Close => continue,
            Request::Page { .. } | Request::Start(_) => {
                let message = "no document is open";
                Err((
                    Trouble::new(Stage::Render, TroubleCode::Other, message),
                    false,
                ))
            }
        };
        match opened {
            Ok((opened, info)) => {
                write_frame(&mut *answers, &Answer::Opened(info), &[])?;
                next = serve_pages(&opened, asked, answers, settings)?;
            }
            Err((trouble, poisoned)) => {
                write_frame(&mut *answers, &Answer::Failed { trouble, poisoned }, &[])?;
            }
        }
    }
}

/// Draws pages until something else is asked for, which is returned.
fn serve_pages(
    opened: &Opened,
    asked: &Receiver<Asked>,
    answers: &mut File,
    settings: &ChildSettings,
) -> io::Result<Option<Asked>> {
    let mut pdf_state = match opened {
        Opened::Pdf(document) => Some(pdf::PdfState::new(document)),
        Opened::Image(_) | Opened::Tiff(_) => None,
    };
    while let Ok((request, body)) = asked.recv() {
        let Request::Page {
            page_idx,
            spec,
            with_text,
        } = request
        else {
            return Ok(Some((request, body)));
        };
        let spec = sane(spec);
        let memory = settings.memory_limit_bytes;
        let drawn = guarded(Stage::Render, || match (opened, &mut pdf_state) {
            (Opened::Pdf(document), Some(state)) => {
                document.page(state, page_idx, &spec, with_text, memory)
            }
            (Opened::Pdf(_), None) => unreachable!("a PDF has its state"),
            (Opened::Image(document), _) => document.page(page_idx, &spec),
            (Opened::Tiff(document), _) => document.page(page_idx, &spec, memory),
        });
        match drawn {
            Ok(frame) => {
                let Frame { head, rgb } = frame;
                write_frame(&mut *answers, &Answer::Page(Box::new(head)), &rgb)?;
            }
            Err((trouble, poisoned)) => {
                write_frame(&mut *answers, &Answer::Failed { trouble, poisoned }, &[])?;
            }
        }
    }
    Ok(None)
}

fn open(
    media_type: &str,
    bytes: Vec<u8>,
    settings: &ChildSettings,
    fonts: &Arc<FontShelf>,
) -> Result<(Opened, OpenedInfo), Trouble> {
    match media_type {
        "application/pdf" => pdf::PdfDocument::open(bytes, &settings.passwords, fonts)
            .map(|(document, info)| (Opened::Pdf(document), info)),
        "image/tiff" => {
            tiff::TiffDocument::open(bytes).map(|(document, info)| (Opened::Tiff(document), info))
        }
        _ => image::ImageDocument::open(media_type, bytes, settings.memory_limit_bytes)
            .map(|(document, info)| (Opened::Image(document), info)),
    }
}

/// Runs `work`; a panic becomes a trouble and a child that is not to be used again.
fn guarded<T>(
    stage: Stage,
    work: impl FnOnce() -> Result<T, Trouble>,
) -> Result<T, (Trouble, bool)> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|trouble| (trouble, false)),
        Err(payload) => Err((trouble_of_panic(stage, payload.as_ref()), true)),
    }
}

fn trouble_of_panic(stage: Stage, payload: &(dyn Any + Send)) -> Trouble {
    if let Some(trouble) = payload.downcast_ref::<Trouble>() {
        return trouble.clone();
    }
    let message = LAST_PANIC
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let code = if message.starts_with("capacity overflow") {
        TroubleCode::OutOfMemory
    } else {
        TroubleCode::Crash
    };
    Trouble::new(stage, code, format!("the renderer panicked: {message}"))
}

/// Limits within which pixel sizes fit the rasterizer's 16 bits.
fn sane(spec: RenderSpec) -> RenderSpec {
    let dpi = if spec.dpi.is_finite() {
        spec.dpi.clamp(1.0, 2400.0)
    } else {
        144.0
    };
    let max_edge_px = spec.max_edge_px.clamp(1, u32::from(u16::MAX / 2));
    RenderSpec {
        dpi,
        max_edge_px,
        max_area_px: spec.max_area_px.max(1),
    }
}
