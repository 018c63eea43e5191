//! Pages by how much text they hold.

use super::Measured;

/// Bounds between buckets: steps of 100 where the paper has pages (600 to 1,300 tokens), wider
/// ones around them.
const BOUNDS: [u32; 11] = [300, 600, 700, 800, 900, 1000, 1100, 1200, 1300, 2000, 4000];

/// Pages of one mode with about as much text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bucket {
    pub mode: String,
    /// Tokens of text, half-open; `None`: without end.
    pub from: u32,
    pub to: Option<u32>,
    pub pages: usize,
    /// Means over the pages.
    pub precision: f32,
    pub word_precision: f32,
    pub text_tokens: f32,
    pub compression: Option<f32>,
}

impl Bucket {
    /// As people read it.
    pub(super) fn range(&self) -> String {
        match (self.from, self.to) {
            (0, Some(to)) => format!("under {to}"),
            (from, Some(to)) => format!("{from}–{to}"),
            (from, None) => format!("{from} and more"),
        }
    }
}

/// The buckets of a mode that have pages, in order.
pub(super) fn buckets(mode: &str, pages: &[Measured]) -> Vec<Bucket> {
    let starts = std::iter::once(0).chain(BOUNDS);
    let ends = BOUNDS.into_iter().map(Some).chain(std::iter::once(None));
    let in_range = |page: &&Measured, from: u32, to: Option<u32>| {
        page.mode == mode && page.text_tokens >= from && to.is_none_or(|to| page.text_tokens < to)
    };
    starts
        .zip(ends)
        .filter_map(|(from, to)| {
            let inside: Vec<&Measured> = pages
                .iter()
                .filter(|page| in_range(page, from, to))
                .collect();
            bucket(mode, from, to, &inside)
        })
        .collect()
}

fn bucket(mode: &str, from: u32, to: Option<u32>, pages: &[&Measured]) -> Option<Bucket> {
    if pages.is_empty() {
        return None;
    }
    let mean = |value: fn(&Measured) -> f32| {
        pages.iter().map(|page| value(page)).sum::<f32>() / pages.len() as f32
    };
    let ratios: Vec<f32> = pages.iter().filter_map(|page| page.compression()).collect();
    let compression =
        (!ratios.is_empty()).then(|| ratios.iter().sum::<f32>() / ratios.len() as f32);
    Some(Bucket {
        mode: mode.to_owned(),
        from,
        to,
        pages: pages.len(),
        precision: mean(|page| page.precision),
        word_precision: mean(|page| page.word_precision),
        text_tokens: mean(|page| page.text_tokens as f32),
        compression,
    })
}

#[cfg(test)]
pub(super) fn page(mode: &str, text_tokens: u32, precision: f32) -> Measured {
    Measured {
        mode: mode.to_owned(),
        page: format!("{text_tokens}.png"),
        text_tokens,
        vision_tokens: (mode != "lines").then_some(64),
        precision,
        word_precision: precision,
        ended: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_fall_into_the_buckets_of_the_paper_and_wider_ones_around() {
        let pages = [
            page("tiny", 10, 1.0),
            page("tiny", 600, 0.9),
            page("tiny", 699, 0.7),
            page("tiny", 700, 0.5),
            page("small", 650, 0.1),
            page("tiny", 9000, 0.0),
        ];
        let found = buckets("tiny", &pages);
        let told: Vec<(String, usize)> = found
            .iter()
            .map(|bucket| (bucket.range(), bucket.pages))
            .collect();
        let expected = [
            ("under 300".to_owned(), 1),
            ("600–700".to_owned(), 2),
            ("700–800".to_owned(), 1),
            ("4000 and more".to_owned(), 1),
        ];
        assert_eq!(told, expected);
        assert!((found[1].precision - 0.8).abs() < 1e-6);
        let ratio = found[1].compression.unwrap();
        assert!((ratio - 649.5 / 64.0).abs() < 1e-3, "{ratio}");
        assert_eq!(
            buckets("lines", &[page("lines", 5, 1.0)])[0].compression,
            None
        );
    }
}
