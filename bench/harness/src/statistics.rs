//! The few figures that the table rests on.

/// The value at `q` (0 to 1) of `values`, which are sorted here: the nearest rank. 0 for none.
pub fn quantile(values: &mut [f64], q: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.sort_by(f64::total_cmp);
    let rank = (q * values.len() as f64).ceil() as usize;
    values[rank.clamp(1, values.len()) - 1]
}

/// The median; of an even number of values the mean of the two in the middle. `None` for none.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let n = values.len();
    match n {
        0 => None,
        _ if n % 2 == 1 => Some(values[n / 2]),
        _ => Some((values[n / 2 - 1] + values[n / 2]) / 2.0),
    }
}

/// The mean; 0 for none.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// Jain's index of fairness, (Σx)² / (n · Σx²): 1 if all get the same, 1/n if one gets all (Jain, Chiu and Hawe 1984,
/// "A quantitative measure of fairness", eq. 1). 0 if nobody gets anything.
pub fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|x| x * x).sum();
    if squares == 0.0 { 0.0 } else { sum * sum / (shares.len() as f64 * squares) }
}

/// The geometric mean of positive values; `None` for none.
pub fn geometric_mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let logarithms: Vec<_> = values.into_iter().map(f64::ln).collect();
    (!logarithms.is_empty()).then(|| mean(&logarithms).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        fn check(q: f64, expected: f64) {
            let mut values: Vec<f64> = (1..=10).rev().map(f64::from).collect();
            assert_eq!(quantile(&mut values, q), expected, "{q}");
        }
        check(0.0, 1.0);
        check(0.5, 5.0);
        check(0.99, 10.0);
        check(1.0, 10.0);
        assert_eq!(quantile(&mut [], 0.5), 0.0);
    }

    #[test]
    fn medians() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn geometric_means_treat_twice_and_half_alike() {
        assert_eq!(geometric_mean([]), None);
        assert!(geometric_mean([2.0, 0.5, 1.0]).is_some_and(|m| (m - 1.0).abs() < 1e-12));
        assert!(geometric_mean([1.0, 4.0]).is_some_and(|m| (m - 2.0).abs() < 1e-12));
    }

    #[test]
    fn fairness() {
        assert_eq!(jain(&[2.0, 2.0, 2.0, 2.0]), 1.0);
        assert_eq!(jain(&[8.0, 0.0, 0.0, 0.0]), 0.25);
        assert_eq!(jain(&[0.0, 0.0]), 0.0);
    }
}
