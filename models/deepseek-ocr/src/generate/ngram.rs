//! Tokens that would repeat what was written.
//!
//! Two rules exist for this model. The authors' serving code looks at a window of the answer and
//! lets table cells pass; the code beside the checkpoint looks at everything, prompt included.
//! Both forbid a token where the last `size - 1` tokens stood before and it followed.

use super::echoes::Echoes;

/// Which repetitions are forbidden.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NgramBlock {
    #[default]
    Off,
    /// Runs of `size` tokens that started within the last `window` tokens of the answer.
    Window {
        /// With 1, nothing is forbidden: so the reference behaves.
        size: usize,
        /// Less than `size` forbids nothing.
        window: usize,
        /// Never forbidden: empty cells make long runs in honest tables.
        whitelist: Vec<u32>,
    },
    /// Runs of `size` tokens anywhere in prompt and answer.
    Whole { size: usize },
}

impl NgramBlock {
    /// Lags at which a forbidden run can stand.
    fn max_lag(&self) -> usize {
        match *self {
            Self::Off => 0,
            // The reference finds nothing with size 1 here.
            Self::Window { size: 0 | 1, .. } => 0,
            Self::Window { size, window, .. } => (window + 1).saturating_sub(size),
            Self::Whole { size: 0 } => 0,
            Self::Whole { .. } => usize::MAX,
        }
    }
}

/// What one page must not write next, kept up token by token.
#[derive(Debug, Clone)]
pub struct Ngrams {
    /// 0 where nothing is forbidden.
    size: usize,
    whitelist: Vec<u32>,
    echoes: Echoes,
}

impl Ngrams {
    /// Before the first token of an answer to a prompt of these tokens.
    pub fn new(block: &NgramBlock, prompt: &[u32]) -> Self {
        let (size, whitelist) = match block {
            NgramBlock::Off | NgramBlock::Window { size: 0 | 1, .. } => (0, Vec::new()),
            NgramBlock::Window {
                size, whitelist, ..
            } => (*size, whitelist.clone()),
            NgramBlock::Whole { size } => (*size, Vec::new()),
        };
        let mut echoes = Echoes::new(block.max_lag());
        if let NgramBlock::Whole { .. } = block {
            for &token in prompt {
                echoes.push(token);
            }
        }
        Self {
            size,
            whitelist,
            echoes,
        }
    }

    /// A token was written.
    pub fn push(&mut self, token: u32) {
        self.echoes.push(token);
    }

    /// Adds the tokens that must not come next, each once.
    pub fn banned(&self, banned: &mut Vec<u32>) {
        if self.size == 1 {
            // Every token is a run of its own; there is none to compare.
            self.seen(banned);
            return;
        }
        for (lag, run) in self.echoes.runs() {
            if run + 1 < self.size {
                continue;
            }
            if let Some(token) = self.echoes.back(lag)
                && !self.whitelist.contains(&token)
                && !banned.contains(&token)
            {
                banned.push(token);
            }
        }
    }

    fn seen(&self, banned: &mut Vec<u32>) {
        let mut seen = self.echoes.tokens().to_vec();
        seen.sort_unstable();
        seen.dedup();
        seen.retain(|token| !banned.contains(token));
        banned.extend(seen);
    }
}
