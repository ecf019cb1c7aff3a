//! Sizes that may depend on what is not known yet: polynomials with whole coefficients over named symbols.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::text::shortened;

/// How many terms a size may have. Shapes of real models need one to four.
const MAX_TERMS: usize = 16;
/// How many factors a term may have.
const MAX_FACTORS: usize = 8;
/// How many factors a size may have in all, those of roundings within it counted too. It is bounded because everything here
/// recurses over it.
const MAX_WEIGHT: usize = 64;

/// The size of a dimension, or an index into one: a whole number, or a polynomial in symbols such as the batch `N`.
///
/// Every symbol stands for a number of at least 1. Equal sizes are equal for every choice of the symbols; sizes that compare
/// unequal may still be equal for some or, where roundings down are involved, even for all. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Size(Form);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Form {
    Fixed(i64),
    /// Sorted factors with their coefficient, sorted; no coefficient is zero, and not all terms are without factors.
    Open(Arc<[(Vec<Factor>, i64)]>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Factor {
    Symbol(Arc<str>),
    /// The first divided by the second, rounded down.
    Floor(Arc<Size>, i64),
}

impl Size {
    /// A number.
    pub(crate) fn fixed(n: i64) -> Self {
        Self(Form::Fixed(n))
    }

    /// A symbol.
    pub(crate) fn symbol(name: &str) -> Self {
        Self(Form::Open(Arc::new([(vec![Factor::Symbol(name.into())], 1)])))
    }

    /// The number, where it depends on no symbol.
    pub(crate) fn as_fixed(&self) -> Option<i64> {
        match self.0 {
            Form::Fixed(n) => Some(n),
            Form::Open(_) => None,
        }
    }

    /// Whether it is the number `n`.
    pub(crate) fn is(&self, n: i64) -> bool {
        self.as_fixed() == Some(n)
    }

    /// The sum.
    pub(crate) fn plus(&self, other: &Self) -> Result<Self, String> {
        if let (Form::Fixed(a), Form::Fixed(b)) = (&self.0, &other.0) {
            return a.checked_add(*b).map(Self::fixed).ok_or_else(overflow);
        }
        let mut sum = Sum::default();
        for (factors, coefficient) in self.terms().chain(other.terms()) {
            sum.add(factors.to_vec(), coefficient)?;
        }
        sum.finish()
    }

    /// The difference.
    pub(crate) fn minus(&self, other: &Self) -> Result<Self, String> {
        self.plus(&other.times(&Self::fixed(-1))?)
    }

    /// The sum with a number.
    pub(crate) fn offset(&self, n: i64) -> Result<Self, String> {
        self.plus(&Self::fixed(n))
    }

    /// The product.
    pub(crate) fn times(&self, other: &Self) -> Result<Self, String> {
        match (&self.0, &other.0) {
            (Form::Fixed(a), Form::Fixed(b)) => return a.checked_mul(*b).map(Self::fixed).ok_or_else(overflow),
            (Form::Fixed(1), _) => return Ok(other.clone()),
            (_, Form::Fixed(1)) => return Ok(self.clone()),
            _ => {}
        }
        let mut product = Sum::default();
        for (a, x) in self.terms() {
            for (b, y) in other.terms() {
                let mut factors = [a, b].concat();
                if factors.len() > MAX_FACTORS {
                    return Err(too_complicated());
                }
                factors.sort();
                product.add(factors, x.checked_mul(y).ok_or_else(overflow)?)?;
            }
        }
        product.finish()
    }

    /// The product of all; 1 for none.
    pub(crate) fn product<'a>(sizes: impl IntoIterator<Item = &'a Self>) -> Result<Self, String> {
        sizes.into_iter().try_fold(Self::fixed(1), |product, size| product.times(size))
    }

    /// Divided by the positive number `divisor` and rounded down.
    pub(crate) fn divided_down(&self, divisor: i64) -> Result<Self, String> {
        debug_assert!(divisor > 0, "callers check what the file says");
        if let Form::Fixed(n) = self.0 {
            return Ok(Self::fixed(n.div_euclid(divisor)));
        }
        // ⌊(d·q + r) / d⌋ = q + ⌊r / d⌋: what divides evenly comes out of the rounding.
        let (mut quotient, mut rest) = (Sum::default(), Sum::default());
        for (factors, coefficient) in self.terms() {
            let (q, r) = if factors.is_empty() || coefficient % divisor == 0 {
                (coefficient.div_euclid(divisor), coefficient.rem_euclid(divisor))
            } else {
                (0, coefficient)
            };
            quotient.add(factors.to_vec(), q)?;
            rest.add(factors.to_vec(), r)?;
        }
        let rest = rest.finish()?;
        if rest.as_fixed().is_some() {
            return quotient.finish();
        }
        // ⌊(⌊a / b⌋ + c) / d⌋ = ⌊(a + b·c) / (b·d)⌋
        if let Some((inner, b, c)) = rest.nested_floor() {
            let shift = b.checked_mul(c).ok_or_else(overflow)?;
            let divisor = b.checked_mul(divisor).ok_or_else(overflow)?;
            return quotient.finish()?.plus(&inner.offset(shift)?.divided_down(divisor)?);
        }
        quotient.add(vec![Factor::Floor(Arc::new(rest), divisor)], 1)?;
        quotient.finish()
    }

    /// The quotient, where `divisor` is a single term that divides every term evenly.
    pub(crate) fn divided_evenly(&self, divisor: &Self) -> Option<Self> {
        if divisor.is(0) {
            return None;
        }
        if self == divisor {
            return Some(Self::fixed(1));
        }
        let mut by = divisor.terms();
        let (by, n) = by.next().filter(|_| by.next().is_none())?;
        let mut quotient = Sum::default();
        for (factors, coefficient) in self.terms() {
            let mut left = factors.to_vec();
            for factor in by {
                left.remove(left.iter().position(|f| f == factor)?);
            }
            let evenly = coefficient.checked_rem(n)? == 0;
            quotient.add(left, evenly.then(|| coefficient.checked_div(n))??).ok()?;
        }
        quotient.finish().ok()
    }

    /// Whether it is at least `n` whatever the symbols are; `false` where that can't be told.
    pub(crate) fn at_least(&self, n: i64) -> bool {
        self.least().is_some_and(|least| least >= n)
    }

    /// A number that it is never below.
    fn least(&self) -> Option<i64> {
        self.terms().try_fold(0i64, |sum, (factors, coefficient)| {
            // Of something that may be large nothing can be taken away.
            if !factors.is_empty() && coefficient < 0 {
                return None;
            }
            let term = factors.iter().try_fold(coefficient, |product, factor| {
                let least = match factor {
                    Factor::Symbol(_) => 1,
                    Factor::Floor(size, divisor) => size.least()?.div_euclid(*divisor),
                };
                product.checked_mul(Some(least).filter(|least| *least >= 0)?)
            })?;
            sum.checked_add(term)
        })
    }

    /// The number that it is for these values of the symbols; `None` where one is missing or the number too large.
    pub(crate) fn at(&self, values: &BTreeMap<String, i64>) -> Option<i64> {
        self.terms().try_fold(0i64, |sum, (factors, coefficient)| {
            let term = factors.iter().try_fold(coefficient, |product, factor| {
                let value = match factor {
                    Factor::Symbol(name) => *values.get(&**name)?,
                    Factor::Floor(size, divisor) => size.at(values)?.div_euclid(*divisor),
                };
                product.checked_mul(value)
            })?;
            sum.checked_add(term)
        })
    }

    /// With a symbol replaced by another size.
    pub(crate) fn with(&self, symbol: &str, by: &Self) -> Result<Self, String> {
        let mut sum = Self::default();
        for (factors, coefficient) in self.terms() {
            let mut term = Self::fixed(coefficient);
            for factor in factors {
                term = term.times(&match factor {
                    Factor::Symbol(name) if **name == *symbol => by.clone(),
                    Factor::Symbol(name) => Self::symbol(name),
                    Factor::Floor(size, divisor) => size.with(symbol, by)?.divided_down(*divisor)?,
                })?;
            }
            sum = sum.plus(&term)?;
        }
        Ok(sum)
    }

    /// Adds the symbols that it depends on.
    pub(crate) fn collect_symbols(&self, into: &mut BTreeSet<String>) {
        for factor in self.terms().flat_map(|(factors, _)| factors) {
            match factor {
                Factor::Symbol(name) => {
                    into.insert(name.to_string());
                }
                Factor::Floor(size, _) => size.collect_symbols(into),
            }
        }
    }

    /// Whether it depends on this symbol.
    pub(crate) fn depends_on(&self, symbol: &str) -> bool {
        self.terms().flat_map(|(factors, _)| factors).any(|factor| match factor {
            Factor::Symbol(name) => **name == *symbol,
            Factor::Floor(size, _) => size.depends_on(symbol),
        })
    }

    /// What it takes to keep, beyond itself: how many factors it has, those of roundings within it counted too.
    pub(crate) fn weight(&self) -> usize {
        self.terms().map(|(factors, _)| weight(factors)).sum()
    }

    fn terms(&self) -> impl Iterator<Item = (&[Factor], i64)> {
        let (number, terms) = match &self.0 {
            Form::Fixed(n) => (Some(*n).filter(|n| *n != 0), &[][..]),
            Form::Open(terms) => (None, &terms[..]),
        };
        number.map(|n| (&[][..], n)).into_iter().chain(terms.iter().map(|(factors, n)| (&factors[..], *n)))
    }

    /// `(a, b, c)` for ⌊a / b⌋ + c.
    fn nested_floor(&self) -> Option<(&Self, i64, i64)> {
        let constant = self.terms().find(|(factors, _)| factors.is_empty()).map_or(0, |(_, c)| c);
        let mut others = self.terms().filter(|(factors, _)| !factors.is_empty());
        match (others.next()?, others.next()) {
            (([Factor::Floor(size, divisor)], 1), None) => Some((size, *divisor, constant)),
            _ => None,
        }
    }
}

fn weight(factors: &[Factor]) -> usize {
    let weight = |factor: &Factor| match factor {
        Factor::Symbol(_) => 1,
        Factor::Floor(size, _) => size.weight() + 1,
    };
    factors.iter().map(weight).sum()
}

impl Default for Size {
    fn default() -> Self {
        Self::fixed(0)
    }
}

/// A size in the making.
#[derive(Default)]
struct Sum {
    /// Coefficients by the sorted factors of their term; none is zero.
    terms: BTreeMap<Vec<Factor>, i64>,
}

impl Sum {
    fn add(&mut self, factors: Vec<Factor>, coefficient: i64) -> Result<(), String> {
        use std::collections::btree_map::Entry;
        match self.terms.entry(factors) {
            Entry::Occupied(mut old) => {
                let new = old.get().checked_add(coefficient).ok_or_else(overflow)?;
                if new == 0 {
                    old.remove();
                } else {
                    old.insert(new);
                }
            }
            Entry::Vacant(_) if coefficient == 0 => {}
            Entry::Vacant(new) => {
                new.insert(coefficient);
            }
        }
        if self.terms.len() > MAX_TERMS { Err(too_complicated()) } else { Ok(()) }
    }

    fn finish(self) -> Result<Size, String> {
        let number = match self.terms.len() {
            0 => Some(0),
            1 => self.terms.get(&Vec::new()[..]).copied(),
            _ => None,
        };
        if let Some(number) = number {
            return Ok(Size::fixed(number));
        }
        if self.terms.keys().map(|factors| weight(factors)).sum::<usize>() > MAX_WEIGHT {
            return Err(too_complicated());
        }
        Ok(Size(Form::Open(self.terms.into_iter().collect())))
    }
}

impl From<usize> for Size {
    fn from(n: usize) -> Self {
        // No tensor in memory has more than i64::MAX elements.
        Self::fixed(i64::try_from(n).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Form::Fixed(n) = self.0 {
            return write!(f, "{n}");
        }
        // Terms with symbols first, the plain number last: N·24, height + 1.
        let number = self.terms().filter(|(factors, _)| factors.is_empty());
        let others = self.terms().filter(|(factors, _)| !factors.is_empty());
        for (i, (factors, coefficient)) in others.chain(number).enumerate() {
            match (i, coefficient < 0) {
                (0, true) => f.write_str("-")?,
                (0, false) => {}
                (_, true) => f.write_str("-")?,
                (_, false) => f.write_str("+")?,
            }
            let magnitude = coefficient.unsigned_abs();
            for (i, factor) in factors.iter().enumerate() {
                write!(f, "{}{factor}", if i > 0 { "·" } else { "" })?;
            }
            if factors.is_empty() {
                write!(f, "{magnitude}")?;
            } else if magnitude != 1 {
                write!(f, "·{magnitude}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symbol(name) => f.write_str(name),
            Self::Floor(size, divisor) if size.terms().nth(1).is_none() => write!(f, "⌊{size}/{divisor}⌋"),
            Self::Floor(size, divisor) => write!(f, "⌊({size})/{divisor}⌋"),
        }
    }
}

fn overflow() -> String {
    "a size does not fit in 63 bits".into()
}

fn too_complicated() -> String {
    "a size depends on the open dimensions in too complicated a way".into()
}

/// A shape for people: `N×3×416×416`; `scalar` for none. Of one that is very long only the beginning.
pub(crate) fn shape_text(shape: &[Size]) -> String {
    if shape.is_empty() {
        return "scalar".into();
    }
    let dims: Vec<_> = shape.iter().take(MAX_DIMS_SHOWN).map(|size| shortened(size, MAX_SIZE_SHOWN)).collect();
    dims.join("×") + if shape.len() > MAX_DIMS_SHOWN { "×…" } else { "" }
}

/// How many dimensions of a shape are shown: more than a tensor may have, fewer than a hostile file may ask for.
const MAX_DIMS_SHOWN: usize = 20;
/// How many bytes of a size are shown.
const MAX_SIZE_SHOWN: usize = 80;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn n() -> Size {
        Size::symbol("N")
    }

    fn h() -> Size {
        Size::symbol("h")
    }

    #[test]
    fn sizes_compute_and_print() {
        fn check(size: Result<Size, String>, expected: &str) {
            assert_eq!(size.unwrap().to_string(), expected);
        }
        check(Ok(Size::fixed(0)), "0");
        check(n().times(&24.into()), "N·24");
        check(h().offset(-3), "h-3");
        check(h().minus(&h()), "0");
        check(n().times(&h().offset(1).unwrap()), "N+N·h");
        check(h().offset(1).unwrap().divided_down(2), "⌊(h+1)/2⌋");
        // An odd size halved twice is a quarter, rounded once.
        check(h().divided_down(2).unwrap().divided_down(2), "⌊h/4⌋");
        check(h().offset(1).unwrap().divided_down(2).unwrap().offset(1).unwrap().divided_down(2), "⌊(h+3)/4⌋");
        check(h().times(&4.into()).unwrap().offset(7).unwrap().divided_down(2), "h·2+3");
        check(h().offset(5).unwrap().divided_down(2), "⌊(h+1)/2⌋+2");
    }

    #[test]
    fn division_is_even_or_refused() {
        let volume = Size::product([&n(), &24.into(), &h(), &h()]).unwrap();
        let check = |by: Size, expected: Option<&str>| {
            assert_eq!(volume.divided_evenly(&by).map(|s| s.to_string()).as_deref(), expected, "{by}");
        };
        check(n().times(&8.into()).unwrap(), Some("h·h·3"));
        check(volume.clone(), Some("1"));
        check(5.into(), None);
        check(0.into(), None);
        check(Size::symbol("w"), None);
        check(n().offset(1).unwrap(), None);
    }

    #[test]
    fn bounds_hold_for_every_choice() {
        assert!(n().at_least(1));
        assert!(!n().at_least(2));
        assert!(!h().offset(-1).unwrap().at_least(1));
        assert!(h().times(&2.into()).unwrap().offset(-1).unwrap().at_least(1));
        assert!(!n().minus(&h()).unwrap().at_least(-5));
        assert!(h().divided_down(2).unwrap().at_least(0));
        assert!(h().offset(1).unwrap().divided_down(2).unwrap().at_least(1));
        // Rounded down, what may be below zero may be so still.
        assert!(!h().minus(&n()).unwrap().divided_down(2).unwrap().at_least(0));
    }

    #[test]
    fn no_size_grows_without_end() {
        assert!(Size::fixed(i64::MAX).offset(1).is_err());
        assert!(Size::fixed(i64::MAX).times(&n()).unwrap().times(&2.into()).is_err());
        let mut size = h();
        let grown = (0..1000).try_for_each(|_| {
            size = size.times(&2.into())?.offset(1)?.divided_down(3)?;
            Ok::<_, String>(())
        });
        assert!(grown.unwrap_err().contains("too complicated"));
        let mut size = h().offset(1).unwrap();
        let grown = (0..1000).try_for_each(|_| {
            size = size.times(&size)?;
            Ok::<_, String>(())
        });
        assert!(grown.is_err());
    }

    proptest! {
        /// What is computed on symbols is what is computed on the numbers that they stand for.
        #[test]
        fn symbols_compute_as_their_numbers(
            steps in prop::collection::vec((0u8..5, 1i64..9), 1..7), n_is in 1i64..50, h_is in 1i64..50,
        ) {
            let values = BTreeMap::from([("N".to_owned(), n_is), ("h".to_owned(), h_is)]);
            let (mut size, mut number) = (n().times(&h()).unwrap().offset(3).unwrap(), n_is * h_is + 3);
            for (step, k) in steps {
                (size, number) = match step {
                    0 => (size.offset(k).unwrap(), number + k),
                    1 => (size.times(&Size::fixed(k)).unwrap(), number * k),
                    2 => (size.divided_down(k).unwrap(), number.div_euclid(k)),
                    3 => (size.minus(&h()).unwrap(), number - h_is),
                    _ => (size.plus(&n()).unwrap(), number + n_is),
                };
            }
            prop_assert_eq!(size.at(&values), Some(number), "{}", size);
            let fixed = size.with("N", &Size::fixed(n_is)).unwrap().with("h", &Size::fixed(h_is)).unwrap();
            prop_assert_eq!(fixed.as_fixed(), Some(number));
            prop_assert!(!size.at_least(number + 1));
        }
    }
}
