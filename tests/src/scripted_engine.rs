//! An engine that reads nothing and costs nothing: for tests of everything around an engine.
//! What it says of a page depends on the page's pixels alone, so that runs can be compared.

use std::path::PathBuf;
use std::time::Duration;

use quire_core::{
    AnswerSink, Block, Engine, EngineError, EngineInfo, Label, Line, PageAnswer, PageImage,
    PageRequest, PageSource, Recognition, Rect, Rotation,
};

/// Answers each page with a line that names its pixels' checksum.
#[derive(Debug)]
pub struct ScriptedEngine {
    info: EngineInfo,
    per_page: Duration,
    gate: Option<PathBuf>,
    n_read: u64,
}

/// A closed gate is looked at this often.
const LOOK: Duration = Duration::from_millis(10);

impl ScriptedEngine {
    /// An engine that takes `per_page` for each page.
    pub fn new(per_page: Duration) -> Self {
        let info = EngineInfo {
            name: "scripted".into(),
            version: "1".into(),
            model_id: "none".into(),
            model_revision: "0".repeat(64),
            mode: "test".into(),
        };
        Self {
            info,
            per_page,
            gate: None,
            n_read: 0,
        }
    }

    /// One that stands still while there is a file of this name, once it has read as many pages
    /// as the file says.
    #[must_use]
    pub fn behind(mut self, gate: PathBuf) -> Self {
        self.gate = Some(gate);
        self
    }

    fn pass_gate(&self) {
        let Some(gate) = &self.gate else { return };
        while let Ok(text) = std::fs::read_to_string(gate) {
            if self.n_read < text.trim().parse().unwrap_or(0) {
                return;
            }
            std::thread::sleep(LOOK);
        }
    }

    fn read(&mut self, page: &PageRequest) -> Recognition {
        self.pass_gate();
        self.n_read += 1;
        std::thread::sleep(self.per_page);
        let text = format!("page with checksum {:016x}", checksum(&page.image));
        let rect = Rect {
            x0: 0.1,
            y0: 0.1,
            x1: 0.9,
            y1: 0.2,
        };
        let line = Line {
            block: Some(0),
            text: text.clone(),
            rect,
            quad: None,
            confidence: 0.75,
        };
        let block = Block {
            label: Label::Text,
            label_raw: "text".into(),
            rect,
            quad: None,
            text: text.clone(),
            html: None,
            latex: None,
            text_range: Some(0..text.chars().count() as u32),
            parent: None,
            level: None,
            confidence: Some(0.75),
            parsed: None,
        };
        Recognition {
            rotation: Rotation::None,
            text,
            blocks: vec![block],
            lines: Some(vec![line]),
            confidence: Some(0.75),
            confidence_p10: Some(0.75),
            ..Recognition::default()
        }
    }
}

impl Engine for ScriptedEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn pages_in_flight(&self) -> usize {
        1
    }

    fn serve(
        &mut self,
        pages: &mut dyn PageSource,
        answers: &mut dyn AnswerSink,
    ) -> Result<(), EngineError> {
        while let Some(page) = pages.next() {
            let result = Ok(self.read(&page));
            answers.answer(PageAnswer {
                ticket: page.ticket,
                result,
            });
        }
        Ok(())
    }
}

/// FNV-1a over the pixels.
fn checksum(image: &PageImage) -> u64 {
    image.rgb.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
