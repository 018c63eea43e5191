//! Nouns and seams that every other crate shares: identifiers, pages, recognitions, the engine
//! seam, faults and time. No I/O and no runtime live here; a type enters when a second crate
//! needs it.

pub mod clock;
pub mod engine;
pub mod fault;
pub mod ids;
pub mod job;
pub mod page;
pub mod plan;
pub mod recognition;
pub mod trouble;

pub use clock::{Clock, ManualClock, SystemClock};
pub use engine::{
    AnswerSink, Engine, EngineError, EngineInfo, PageAnswer, PageRequest, PageSource, TryNext,
};
pub use fault::{Fault, Faulty, chain};
pub use ids::{DocId, JobId, LeaseId, SessionId, ShardIdx, page_id};
pub use job::{ImageMode, JobSpec, RenderSpec, SplitSpec, TextLayerMode};
pub use page::{PageImage, Rotation};
pub use plan::{PlannedDocument, PlannedWork, shard_lines};
pub use recognition::{Block, Flag, Label, Line, Parsed, Quad, Recognition, Rect};
pub use trouble::{Stage, Trouble, TroubleCode};
