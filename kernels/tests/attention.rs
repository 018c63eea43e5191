//! Attention against the same in f64, for every kind of instructions that this CPU has.

mod random;

use proptest::prelude::*;
use quire_kernels::{Attend, PAGE, Rows, Stored, Vectors, attend};
use random::{Random, TYPES};

/// Keys or values of one head, in pages. What was never written is no number.
struct Cached {
    stored: Stored,
    rows: Rows,
    pages: Vec<Vec<u32>>,
}

impl Cached {
    fn new(random: &mut Random, stored: Stored, positions: usize, width: usize) -> Self {
        let mut rows = random.rows(positions, width);
        let row_words = stored.words(width);
        let mut pages = vec![vec![u32::MAX; PAGE * row_words]; positions.div_ceil(PAGE)];
        for position in 0..positions {
            let words = &mut pages[position / PAGE][position % PAGE * row_words..][..row_words];
            stored.store(rows.row(position), words);
            for (place, value) in rows.row_mut(position).iter_mut().enumerate() {
                *value = match stored {
                    Stored::F32 => f32::from_bits(words[place]),
                    Stored::Bf16 => half::bf16::from_bits(bits(words, place)).to_f32(),
                    Stored::F16 => half::f16::from_bits(bits(words, place)).to_f32(),
                };
            }
        }
        Self {
            stored,
            rows,
            pages,
        }
    }

    fn pages(&self) -> Vec<&[u32]> {
        self.pages.iter().map(Vec::as_slice).collect()
    }
}

fn bits(words: &[u32], place: usize) -> u16 {
    (words[place / 2] >> (place % 2 * 16)) as u16
}

fn run(
    vectors: Vectors,
    [keys, values]: [&Cached; 2],
    queries: &Rows,
    range: std::ops::Range<usize>,
    seen: &[usize],
) -> Rows {
    let mut out = Rows::zeros(range.len(), queries.width());
    let task = Attend {
        keys: keys.pages(),
        values: values.pages(),
        queries: range.clone().map(|index| queries.row(index)).collect(),
        seen: seen[range].to_vec(),
        out: out.iter_mut().collect(),
    };
    attend(vectors, keys.stored, 0.3, vec![task]);
    out
}

fn exact(query: &[f32], keys: &Rows, values: &Rows, seen: usize) -> Vec<f64> {
    let score = |position: usize| {
        let terms = query.iter().zip(keys.row(position));
        let product: f64 = terms.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        0.3 * product
    };
    let weights: Vec<f64> = (0..seen).map(|position| score(position).exp()).collect();
    let total: f64 = weights.iter().sum();
    (0..query.len())
        .map(|place| {
            let terms = weights.iter().enumerate();
            let terms = terms.map(|(at, weight)| weight * f64::from(values.row(at)[place]));
            terms.sum::<f64>() / total
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn attention_of_any_shape_is_right_and_the_same_in_pieces(
        seed in any::<u64>(), n in 1usize..10, width in 1usize..170, before in 0usize..150,
        cut in 0usize..10,
    ) {
        let mut random = Random(seed);
        for stored in TYPES {
            let queries = random.rows(n, width);
            let keys = Cached::new(&mut random, stored, before + n, width);
            let values = Cached::new(&mut random, stored, before + n, width);
            let seen: Vec<usize> = (0..n).map(|index| before + index + 1).collect();
            for vectors in Vectors::all() {
                let cached = [&keys, &values];
                let found = run(vectors, cached, &queries, 0..n, &seen);
                for (row, seen) in seen.iter().copied().enumerate() {
                    let exact = exact(queries.row(row), &keys.rows, &values.rows, seen);
                    for (found, exact) in found.row(row).iter().zip(exact) {
                        prop_assert!((f64::from(*found) - exact).abs() < 1e-5, "{found} {exact}");
                    }
                }
                let cut = cut.min(n);
                let mut pieces = run(vectors, cached, &queries, 0..cut, &seen).to_vec();
                pieces.extend(run(vectors, cached, &queries, cut..n, &seen).to_vec());
                prop_assert_eq!(pieces, found.to_vec());
            }
        }
    }
}
