//! How long the end of a text repeats what stands a given way before it.

/// Tokens, and for each lag the number of tokens at the end that equal the one `lag` before them.
///
/// Both the blocking of n-grams and the finding of loops ask this question of every token, and
/// both want it answered without looking at the text again: a step costs one comparison a lag.
#[derive(Debug, Clone)]
pub(super) struct Echoes {
    tokens: Vec<u32>,
    /// Of lag 1 first; as many as there are tokens before the last one, or `max_lag`.
    runs: Vec<u32>,
    max_lag: usize,
}

impl Echoes {
    pub(super) fn new(max_lag: usize) -> Self {
        Self {
            tokens: Vec::new(),
            runs: Vec::new(),
            max_lag,
        }
    }

    pub(super) fn push(&mut self, token: u32) {
        let n_before = self.tokens.len();
        let lags = n_before.min(self.max_lag);
        self.runs.resize(lags.max(self.runs.len()), 0);
        let before = self.tokens[n_before - lags..].iter().rev();
        for (run, &before) in self.runs.iter_mut().zip(before) {
            *run = if before == token { *run + 1 } else { 0 };
        }
        self.tokens.push(token);
    }

    pub(super) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Lags and their runs, shortest lag first.
    pub(super) fn runs(&self) -> impl Iterator<Item = (usize, usize)> {
        let runs = self.runs.iter().enumerate();
        runs.map(|(index, &run)| (index + 1, run as usize))
    }

    /// The token `lag` before the next one; the last one at 1.
    pub(super) fn back(&self, lag: usize) -> Option<u32> {
        let at = self.tokens.len().checked_sub(lag)?;
        self.tokens.get(at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_those_of_a_search() {
        let mut echoes = Echoes::new(7);
        let mut state = 1u32;
        for _ in 0..300 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            echoes.push((state >> 24) % 3);
            let tokens = echoes.tokens();
            for (lag, run) in echoes.runs() {
                let searched = (lag..tokens.len())
                    .rev()
                    .take_while(|&at| tokens[at] == tokens[at - lag])
                    .count();
                assert_eq!(run, searched, "lag {lag} of {tokens:?}");
            }
        }
        assert_eq!(echoes.runs().count(), 7);
    }
}
