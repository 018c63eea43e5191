//! Where a shard that kills its workers is cut: between documents first, then between pages,
//! until the one row that does it stands alone. Pure.

use quire_core::{DocId, PlannedDocument};

use crate::store::Span;

/// After how many rows of a shard to cut it; `lines` are cut to the shard, which has two rows or
/// more. If one document alone is under suspicion it is cut off from the others.
pub(crate) fn cut_after(lines: &[PlannedDocument], suspects: &[DocId]) -> u32 {
    let n_rows: u32 = lines.iter().map(PlannedDocument::n_rows).sum();
    let mut boundaries = Vec::with_capacity(lines.len());
    let mut at = 0;
    for line in lines.iter().take(lines.len().saturating_sub(1)) {
        at += line.n_rows();
        boundaries.push(at);
    }
    let mut suspected = lines
        .iter()
        .enumerate()
        .filter(|(_, line)| suspects.contains(&line.doc_id));
    if let (Some((at, _)), None) = (suspected.next(), suspected.next()) {
        // Before the suspect, or after it if it comes first.
        let boundary = boundaries.get(at.saturating_sub(1));
        if let Some(&boundary) = boundary {
            return boundary;
        }
    }
    let half = n_rows / 2;
    boundaries
        .into_iter()
        .min_by_key(|&at| (at.abs_diff(half), at))
        .unwrap_or(half.max(1))
}

/// Cuts a span after some of its rows. `line_rows` are the rows of its whole lines.
pub(crate) fn split(span: &Span, line_rows: &[u32], after: u32) -> [Span; 2] {
    let cut_at = span.skip_rows + after;
    let mut before = 0;
    let mut n_lines = 0;
    for &rows in line_rows {
        if before + rows > cut_at {
            break;
        }
        before += rows;
        n_lines += 1;
    }
    let skip_rows = cut_at - before;
    let first = Span {
        n_rows: after,
        line_end: span.line_start + n_lines + u32::from(skip_rows > 0),
        ..*span
    };
    let second = Span {
        first_row: span.first_row + u64::from(after),
        n_rows: span.n_rows - after,
        line_start: span.line_start + n_lines,
        skip_rows,
        ..*span
    };
    [first, second]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quire_core::{PlannedWork, shard_lines};

    use super::*;
    use crate::plan::for_test::document;

    fn pages(lines: &[PlannedDocument]) -> Vec<(DocId, u32)> {
        let of_line = |line: &PlannedDocument| match line.work {
            PlannedWork::Read { first_idx, count } => (first_idx..first_idx + count)
                .map(|page| (line.doc_id.clone(), page))
                .collect(),
            _ => Vec::new(),
        };
        lines.iter().flat_map(of_line).collect()
    }

    proptest! {
        #[test]
        fn halves_hold_the_rows_of_the_whole_down_to_single_rows(
            counts in prop::collection::vec(1_u32..12, 1..8),
            poison in any::<prop::sample::Index>(),
            knows_suspect: bool,
        ) {
            let lines: Vec<_> =
                counts.iter().enumerate().map(|(at, &n)| document(at, n)).collect();
            let n_rows: u32 = counts.iter().sum();
            let poison = poison.index(n_rows as usize) as u64;
            let mut span = Span {
                first_row: 0,
                n_rows,
                group: 0,
                line_start: 0,
                line_end: u32::try_from(lines.len()).unwrap(),
                skip_rows: 0,
            };
            let all = pages(&lines);
            let mut steps = 0;
            while span.n_rows > 1 {
                let whole = &lines[span.line_start as usize..span.line_end as usize];
                let cut = shard_lines(whole, span.skip_rows, span.n_rows);
                let here = usize::try_from(poison - span.first_row).unwrap();
                let suspects =
                    if knows_suspect { vec![pages(&cut)[here].0.clone()] } else { Vec::new() };
                let after = cut_after(&cut, &suspects);
                prop_assert!(after >= 1 && after < span.n_rows);
                let line_rows: Vec<u32> = whole.iter().map(PlannedDocument::n_rows).collect();
                let halves = split(&span, &line_rows, after);
                let mut together = Vec::new();
                for half in &halves {
                    prop_assert!(span.contains(half));
                    let whole = &lines[half.line_start as usize..half.line_end as usize];
                    let cut = shard_lines(whole, half.skip_rows, half.n_rows);
                    let n: u32 = cut.iter().map(PlannedDocument::n_rows).sum();
                    prop_assert_eq!(n, half.n_rows);
                    // No line that the half has no row of.
                    prop_assert_eq!(cut.len(), whole.len());
                    together.extend(pages(&cut));
                }
                prop_assert_eq!(together, pages(&cut));
                prop_assert!(!halves[0].overlaps(&halves[1]));
                span = halves.into_iter().find(|half| {
                    half.first_row <= poison && poison < half.end_row()
                }).unwrap();
                steps += 1;
                prop_assert!(steps < 100);
            }
            let whole = &lines[span.line_start as usize..span.line_end as usize];
            let last = pages(&shard_lines(whole, span.skip_rows, 1));
            prop_assert_eq!(&last[..], &all[poison as usize..=poison as usize]);
        }
    }

    #[test]
    fn sole_suspect_is_cut_off_from_the_others() {
        let lines = [
            document(0, 9),
            document(1, 2),
            document(2, 1),
            document(3, 1),
        ];
        let suspect = |at: usize| vec![lines[at].doc_id.clone()];
        assert_eq!(cut_after(&lines, &suspect(0)), 9);
        assert_eq!(cut_after(&lines, &suspect(1)), 9);
        assert_eq!(cut_after(&lines, &suspect(2)), 11);
        assert_eq!(cut_after(&lines[1..], &[]), 2);
        assert_eq!(cut_after(&lines[..1], &suspect(0)), 4);
    }
}
