//! Whether runtimes compute the same thing.

use nv_bench_runner::Outputs;

/// How far outputs may be from those that they are held against: max|a−b| / max|b| of an output.
pub(crate) const TOLERANCE: f64 = 1e-4;

/// The largest max|a−b| / max|b| of all outputs; an error where they don't even have the same form. What is no number is
/// infinitely far from everything.
pub(crate) fn difference(a: &Outputs, b: &Outputs) -> Result<f64, String> {
    let form = |outputs: &Outputs| outputs.iter().map(Vec::len).collect::<Vec<_>>();
    if form(a) != form(b) {
        return Err(format!("outputs of {:?} values, not of {:?}", form(a), form(b)));
    }
    let of_one = |(a, b): (&Vec<f32>, &Vec<f32>)| {
        let largest = b.iter().fold(0.0, |most, b| f64::max(most, f64::from(b.abs())));
        let apart = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
        let apart = apart.fold(0.0, |most, d| if d.is_nan() { f64::INFINITY } else { f64::max(most, d) });
        if apart == 0.0 { 0.0 } else { apart / largest }
    };
    Ok(a.iter().zip(b).map(of_one).fold(0.0, f64::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_output_counts_against_its_own_size() {
        let check = |a: &[&[f32]], b: &[&[f32]], expected: f64| {
            let outputs = |o: &[&[f32]]| o.iter().map(|v| v.to_vec()).collect();
            assert_eq!(difference(&outputs(a), &outputs(b)), Ok(expected), "{a:?} {b:?}");
        };
        check(&[&[1.0, 2.0], &[8.0]], &[&[1.0, 2.0], &[8.0]], 0.0);
        check(&[&[1.0, 2.5], &[8.0]], &[&[1.0, 2.0], &[8.0]], 0.25);
        check(&[&[100.0], &[1.5]], &[&[100.0], &[1.0]], 0.5);
        check(&[&[0.0]], &[&[0.0]], 0.0);
        check(&[&[f32::NAN]], &[&[1.0]], f64::INFINITY);
        assert!(difference(&vec![vec![1.0]], &vec![vec![1.0, 2.0]]).is_err());
    }
}
