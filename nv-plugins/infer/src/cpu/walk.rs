//! Goes through the elements of several views at once.

/// Calls `visit` with the positions in `N` views of each index below `dims`, the last dimension varying fastest. A view is
/// given by where it begins and its strides, one for each of `dims`.
pub(crate) fn walk<const N: usize>(
    dims: &[usize],
    from: [usize; N],
    strides: [&[isize]; N],
    mut visit: impl FnMut([usize; N]),
) {
    if !dims.contains(&0) {
        inner(dims, from, strides, &mut visit);
    }
}

fn inner<const N: usize>(
    dims: &[usize],
    mut at: [usize; N],
    strides: [&[isize]; N],
    visit: &mut impl FnMut([usize; N]),
) {
    let Some((&n, rest)) = dims.split_first() else { return visit(at) };
    let step = strides.map(|s| s[0]);
    let strides = strides.map(|s| &s[1..]);
    for i in 0..n {
        if i > 0 {
            at.iter_mut().zip(step).for_each(|(at, step)| *at = at.wrapping_add_signed(step));
        }
        if rest.is_empty() { visit(at) } else { inner(rest, at, strides, visit) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_follow_the_strides() {
        let mut seen = Vec::new();
        walk([2, 3].as_slice(), [5, 0], [&[-3, -1], &[0, 2]], |at| seen.push(at));
        assert_eq!(seen, [[5, 0], [4, 2], [3, 4], [2, 0], [1, 2], [0, 4]]);
        let mut count = 0;
        walk([].as_slice(), [7], [&[]], |[at]| count += at);
        assert_eq!(count, 7);
        walk([3, 0].as_slice(), [0], [&[1, 1]], |_| panic!("no index is below these"));
    }
}
