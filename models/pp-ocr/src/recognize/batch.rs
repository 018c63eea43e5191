//! Which lines are read together.

/// Pixels of width that a batch holds at most, if it is of more than one line: enough for the
/// matrix products to be large, little enough for their results to stay near the processor.
const MAX_BATCH_WIDTH: usize = 1280;
/// Pixels that a line may be padded by: padding costs time and is read as background.
const MAX_PADDING: usize = 16;

/// Groups lines of like width; every line stands in exactly one group. Wide lines come first.
pub(super) fn plan(widths: &[usize]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..widths.len()).collect();
    order.sort_by(|&a, &b| widths[b].cmp(&widths[a]).then(a.cmp(&b)));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut widest = 0;
    for index in order {
        let width = widths[index];
        if let Some(batch) = batches.last_mut() {
            let fits = (batch.len() + 1) * widest <= MAX_BATCH_WIDTH;
            if fits && width + MAX_PADDING.min(widest / 10) >= widest {
                batch.push(index);
                continue;
            }
        }
        widest = width;
        batches.push(vec![index]);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_in_one_batch_of_like_widths() {
        let widths: Vec<usize> = (0..300).map(|index| 16 + (index * 7919) % 1900).collect();
        let batches = plan(&widths);
        let mut seen: Vec<usize> = batches.iter().flatten().copied().collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..300).collect::<Vec<_>>());
        for batch in &batches {
            let of = |index: &usize| widths[*index];
            let (low, high) = (batch.iter().map(of).min(), batch.iter().map(of).max());
            assert!(high.unwrap() - low.unwrap() <= MAX_PADDING);
            assert!(batch.len() == 1 || batch.len() * high.unwrap() <= MAX_BATCH_WIDTH);
        }
    }

    #[test]
    fn no_lines_make_no_batches() {
        assert!(plan(&[]).is_empty());
    }
}
