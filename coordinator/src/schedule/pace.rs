//! How long a row takes. Pure.

/// The middle one of these; of an even number, the mean of the two in the middle.
pub(crate) fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    match values.len() % 2 {
        0 => values
            .get(middle.wrapping_sub(1))
            .map(|lower| f64::midpoint(*lower, upper)),
        _ => Some(upper),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_in_the_middle_whatever_the_order() {
        let check = |values: &[f64], expected| {
            assert_eq!(median(&mut values.to_vec()), expected, "{values:?}");
        };
        check(&[], None);
        check(&[4.0], Some(4.0));
        check(&[9.0, 1.0, 5.0], Some(5.0));
        check(&[9.0, 1.0, 5.0, 3.0], Some(4.0));
    }
}
