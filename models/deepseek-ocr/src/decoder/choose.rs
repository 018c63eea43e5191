//! The token with the largest logit, found where the logits are.

use burn::tensor::{DType, Device, IndexingUpdateOp, Int, Tensor, TensorData, Transaction};

use super::Chosen;

/// The logit of a token that must not be chosen. Finite, since shading languages may treat
/// infinity as they like; no network comes near it.
const BANNED: f32 = -1e30;

/// Chooses a token in each row. The host waits here, once.
///
/// # Shapes
/// - `logits`: `[rows, vocabulary]`, f32
///
/// # Panics
/// When the device fails.
pub(super) fn choose(logits: Tensor<2>, banned: &[&[u32]]) -> Vec<Chosen> {
    let largest = logits.clone().max_dim(1);
    let sum = (logits.clone() - largest.clone()).exp().sum_dim(1);
    let of_all = sum.log() + largest;
    let tokens = ban(logits.clone(), banned).argmax(1);
    // Of the logit as it was: bans do not make the others likelier.
    let log_probabilities = logits.gather(1, tokens.clone()) - of_all;
    let read = Transaction::default()
        .register(tokens)
        .register(log_probabilities)
        .execute();
    let [tokens, log_probabilities] = read.as_slice() else {
        unreachable!("two tensors were asked for");
    };
    tokens
        .iter::<i64>()
        .zip(log_probabilities.iter::<f32>())
        .map(|(token, log_probability)| Chosen {
            token: u32::try_from(token).expect("a token is an index of the vocabulary"),
            log_probability,
        })
        .collect()
}

/// Sets the logits of banned tokens so low that none of them is chosen.
fn ban(logits: Tensor<2>, banned: &[&[u32]]) -> Tensor<2> {
    let [_, vocabulary] = logits.dims();
    let mut places: Vec<i32> = Vec::new();
    for (row, banned) in banned.iter().enumerate() {
        let mut banned: Vec<u32> = banned.to_vec();
        // Two writes to one place are not allowed, and tokens beyond the vocabulary have none.
        banned.sort_unstable();
        banned.dedup();
        for token in banned {
            if (token as usize) < vocabulary {
                places.extend([row as i32, token as i32]);
            }
        }
    }
    if places.is_empty() {
        return logits;
    }
    let device = logits.device();
    let n = places.len() / 2;
    let places = TensorData::new(places, [n, 2]);
    let places = Tensor::<2, Int>::from_data(places, &device);
    logits.scatter_nd::<2, 1>(places, low(n, &device), IndexingUpdateOp::Assign)
}

fn low(n: usize, device: &Device) -> Tensor<1> {
    Tensor::full([n], BANNED, (device, DType::F32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(banned: &[&[u32]]) -> Vec<Chosen> {
        let logits = [[1.0f32, 3.0, 2.0, -1.0], [0.5, 0.25, 0.5, 4.0]];
        choose(Tensor::from_data(logits, &Device::flex()), banned)
    }

    #[test]
    fn largest_logit_wins_with_its_probability_among_all() {
        let chosen = chosen(&[&[], &[]]);
        assert_eq!([chosen[0].token, chosen[1].token], [1, 3]);
        let all: f32 = [1.0f32, 3.0, 2.0, -1.0]
            .iter()
            .map(|logit| logit.exp())
            .sum();
        assert!((chosen[0].log_probability - (3.0 - all.ln())).abs() < 1e-6);
    }

    #[test]
    fn banned_tokens_are_passed_over_and_make_the_others_no_likelier() {
        let free = chosen(&[&[], &[]]);
        // Twice the same, and one that does not exist.
        let chosen = chosen(&[&[1, 1, 9], &[0]]);
        assert_eq!([chosen[0].token, chosen[1].token], [2, 3]);
        let difference = free[0].log_probability - chosen[0].log_probability;
        assert!((difference - 1.0).abs() < 1e-6);
        assert_eq!(free[1], chosen[1]);
    }
}
