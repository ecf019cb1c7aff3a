/// A row and a column that may be paired, and what pairing them is worth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pair {
    pub(crate) row: usize,
    pub(crate) column: usize,
    /// Not negative; a pair whose gain is not a number is left out.
    pub(crate) gain: f64,
}

/// The pairing of rows with columns, each in at most one pair, of greatest total gain: for each row its column.
///
/// Only listed pairs are ever made. The result depends on nothing but the arguments. Pairs that share no row or column,
/// however indirectly, are solved apart: objects in a picture overlap few others, so that the cubic cost is paid on small
/// groups.
pub(crate) fn assign(rows: usize, columns: usize, pairs: &[Pair]) -> Vec<Option<usize>> {
    let mut assigned = vec![None; rows];
    let usable = |p: &&Pair| p.gain >= 0.0 && p.gain.is_finite() && p.row < rows && p.column < columns;
    let pairs: Vec<Pair> = pairs.iter().filter(usable).copied().collect();

    // Rows are nodes 0.., columns come after them.
    let mut groups = Groups::new(rows + columns);
    for pair in &pairs {
        groups.join(pair.row, rows + pair.column);
    }
    let mut by_group: Vec<(usize, Pair)> = pairs.into_iter().map(|p| (groups.find(p.row), p)).collect();
    by_group.sort_by_key(|(group, p)| (*group, p.row, p.column));
    for group in by_group.chunk_by(|a, b| a.0 == b.0) {
        if let [(_, only)] = group {
            assigned[only.row] = Some(only.column);
        } else {
            assign_group(group, &mut assigned);
        }
    }
    assigned
}

/// Solves one group as a dense problem.
fn assign_group(group: &[(usize, Pair)], assigned: &mut [Option<usize>]) {
    let distinct = |of: fn(&Pair) -> usize| {
        let mut all: Vec<usize> = group.iter().map(|(_, p)| of(p)).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let (rows, columns) = (distinct(|p| p.row), distinct(|p| p.column));
    // The solver wants no more rows than columns.
    let transposed = rows.len() > columns.len();
    let (short, long) = if transposed { (&columns, &rows) } else { (&rows, &columns) };
    let mut costs = vec![NOT_A_PAIR; short.len() * long.len()];
    for (_, pair) in group {
        let (s, l) = if transposed { (pair.column, pair.row) } else { (pair.row, pair.column) };
        let at = |all: &[usize], x| all.binary_search(&x).expect("it was collected from the same pairs");
        costs[at(short, s) * long.len() + at(long, l)] = -pair.gain;
    }
    for (s, l) in hungarian(&costs, short.len(), long.len()).into_iter().enumerate() {
        if costs[s * long.len() + l] < NOT_A_PAIR {
            let (row, column) = if transposed { (long[l], short[s]) } else { (short[s], long[l]) };
            assigned[row] = Some(column);
        }
    }
}

/// What leaving a row alone costs: as much as the poorest pair, but told apart from it.
const NOT_A_PAIR: f64 = f64::MIN_POSITIVE;

/// The column of each row in the assignment of least total cost: the Hungarian method with potentials and shortest
/// augmenting paths (Kuhn 1955; Jonker & Volgenant 1987, "A Shortest Augmenting Path Algorithm for Dense and Sparse Linear
/// Assignment Problems"), O(rows² · columns). `costs` is row-major and finite; `rows <= columns`.
fn hungarian(costs: &[f64], rows: usize, columns: usize) -> Vec<usize> {
    const FREE: usize = usize::MAX;
    // One column more than there are: where each search starts, paired with the row being placed.
    let start = columns;
    let mut row_of = vec![FREE; columns + 1];
    let (mut row_potential, mut column_potential) = (vec![0.0; rows], vec![0.0; columns + 1]);
    for new_row in 0..rows {
        row_of[start] = new_row;
        let mut distance = vec![f64::INFINITY; columns];
        let mut previous = vec![start; columns];
        let mut reached = vec![false; columns + 1];
        let mut column = start;
        while row_of[column] != FREE {
            reached[column] = true;
            let row = row_of[column];
            let (mut nearest, mut least) = (start, f64::INFINITY);
            for next in (0..columns).filter(|c| !reached[*c]) {
                let reduced = costs[row * columns + next] - row_potential[row] - column_potential[next];
                if reduced < distance[next] {
                    distance[next] = reduced;
                    previous[next] = column;
                }
                if distance[next] < least {
                    (nearest, least) = (next, distance[next]);
                }
            }
            for c in 0..=columns {
                if reached[c] {
                    row_potential[row_of[c]] += least;
                    column_potential[c] -= least;
                } else {
                    distance[c] -= least;
                }
            }
            column = nearest;
        }
        // Each column on the path takes over the row of the one before it.
        while column != start {
            let before = previous[column];
            row_of[column] = row_of[before];
            column = before;
        }
    }
    let mut column_of = vec![0; rows];
    for (column, row) in row_of[..columns].iter().enumerate() {
        if *row != FREE {
            column_of[*row] = column;
        }
    }
    column_of
}

/// Disjoint sets of nodes (union-find with path halving).
struct Groups(Vec<usize>);

impl Groups {
    fn new(nodes: usize) -> Self {
        Self((0..nodes).collect())
    }

    fn find(&mut self, mut node: usize) -> usize {
        while self.0[node] != node {
            self.0[node] = self.0[self.0[node]];
            node = self.0[node];
        }
        node
    }

    /// The lower root becomes the root of both.
    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        self.0[a.max(b)] = a.min(b);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair(row: usize, column: usize, gain: f64) -> Pair {
        Pair { row, column, gain }
    }

    fn total(assigned: &[Option<usize>], pairs: &[Pair]) -> f64 {
        pairs.iter().filter(|p| assigned[p.row] == Some(p.column)).map(|p| p.gain).sum()
    }

    /// The greatest total gain, by trying everything.
    fn best(pairs: &[Pair], row: usize, rows: usize, taken: &mut Vec<usize>) -> f64 {
        if row == rows {
            return 0.0;
        }
        let mut most = best(pairs, row + 1, rows, taken);
        for p in pairs.iter().filter(|p| p.row == row) {
            if !taken.contains(&p.column) {
                taken.push(p.column);
                most = most.max(p.gain + best(pairs, row + 1, rows, taken));
                taken.pop();
            }
        }
        most
    }

    #[test]
    fn known_problems() {
        fn check((rows, columns): (usize, usize), pairs: &[Pair], expected: &[Option<usize>]) {
            assert_eq!(assign(rows, columns, pairs), expected, "{pairs:?}");
        }
        check((0, 0), &[], &[]);
        check((2, 0), &[], &[None, None]);
        check((1, 1), &[pair(0, 0, 0.0)], &[Some(0)]);
        // The greedy choice, (0, 0), would leave row 1 without.
        check((2, 2), &[pair(0, 0, 0.9), pair(0, 1, 0.8), pair(1, 0, 0.7)], &[Some(1), Some(0)]);
        // More rows than columns: the better one wins.
        check((3, 1), &[pair(0, 0, 0.3), pair(1, 0, 0.5), pair(2, 0, 0.4)], &[None, Some(0), None]);
        // One good pair is better than two poor ones.
        check((2, 2), &[pair(0, 0, 0.9), pair(0, 1, 0.2), pair(1, 0, 0.3)], &[Some(0), None]);
        // What is no number, no gain or out of range is no pair.
        let odd = [pair(0, 0, f64::NAN), pair(0, 1, -1.0), pair(1, 0, f64::INFINITY), pair(5, 0, 1.0), pair(1, 1, 0.1)];
        check((2, 2), &odd, &[None, Some(1)]);
    }

    fn problem() -> impl Strategy<Value = (usize, usize, Vec<Pair>)> {
        (1usize..6, 1usize..6).prop_flat_map(|(rows, columns)| {
            // Few distinct gains make ties.
            let cell = prop_oneof![
                Just(None),
                (0u8..=10).prop_map(|g| Some(f64::from(g) / 10.0)),
                (0.0f64..1.0).prop_map(Some)
            ];
            prop::collection::vec(cell, rows * columns).prop_map(move |cells| {
                let pairs = cells.iter().enumerate().filter_map(|(i, g)| g.map(|g| pair(i / columns, i % columns, g)));
                (rows, columns, pairs.collect())
            })
        })
    }

    proptest! {
        #[test]
        fn as_good_as_trying_everything((rows, columns, pairs) in problem()) {
            let assigned = assign(rows, columns, &pairs);
            let mut used: Vec<usize> = assigned.iter().flatten().copied().collect();
            used.sort_unstable();
            prop_assert!(used.windows(2).all(|w| w[0] < w[1]), "a column twice: {:?}", assigned);
            for (row, column) in assigned.iter().enumerate().filter_map(|(r, c)| Some((r, (*c)?))) {
                prop_assert!(pairs.iter().any(|p| (p.row, p.column) == (row, column)), "made up: {:?}", (row, column));
            }
            let most = best(&pairs, 0, rows, &mut Vec::new());
            prop_assert!((total(&assigned, &pairs) - most).abs() < 1e-9, "{} of {}", total(&assigned, &pairs), most);
        }
    }
}
