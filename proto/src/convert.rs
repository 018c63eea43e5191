//! Between messages and the nouns of `quire-core`.

use quire_core as core;

use crate::v1;

impl From<core::Fault> for v1::Fault {
    fn from(fault: core::Fault) -> Self {
        match fault {
            core::Fault::Input => Self::Input,
            core::Fault::Config => Self::Config,
            core::Fault::Unavailable => Self::Unavailable,
            core::Fault::Fenced => Self::Fenced,
            core::Fault::Corrupt => Self::Corrupt,
            core::Fault::Bug => Self::Bug,
        }
    }
}

impl v1::Fault {
    /// The fault as core knows it; a missing or unknown one is taken for a bug of the sender.
    pub fn to_core(self) -> core::Fault {
        match self {
            Self::Input => core::Fault::Input,
            Self::Config => core::Fault::Config,
            Self::Unavailable => core::Fault::Unavailable,
            Self::Fenced => core::Fault::Fenced,
            Self::Corrupt => core::Fault::Corrupt,
            Self::Bug | Self::Unspecified => core::Fault::Bug,
        }
    }
}

impl From<&core::EngineInfo> for v1::EngineInfo {
    fn from(engine: &core::EngineInfo) -> Self {
        Self {
            name: engine.name.clone(),
            version: engine.version.clone(),
            model_id: engine.model_id.clone(),
            model_revision: engine.model_revision.clone(),
            mode: engine.mode.clone(),
        }
    }
}

impl v1::RowCounts {
    /// All rows.
    pub fn total(&self) -> u64 {
        self.ok
            .saturating_add(self.failed)
            .saturating_add(self.skipped)
    }
}

impl v1::JobState {
    /// Whether nothing will happen to the job any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Canceled | Self::Failed)
    }
}
