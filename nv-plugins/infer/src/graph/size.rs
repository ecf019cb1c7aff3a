//! Sizes that may depend on what is not known yet: polynomials with whole coefficients over named symbols.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// How many terms a size may have. Shapes of real models need one to four.
const MAX_TERMS: usize = 16;
/// How many factors a term may have.
const MAX_FACTORS: usize = 8;
/// How many factors what is rounded down may have, those of roundings within it counted too. It is bounded because everything
/// here recurses over it.
const MAX_WEIGHT: usize = 64;

/// The size of a dimension, or an index into one: a whole number, or a polynomial in symbols such as the batch `N`.
///
/// Every symbol stands for a number of at least 1. Equal sizes are equal for every choice of the symbols; sizes that compare
/// unequal may still be equal for some or, where roundings down are involved, even for all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Size {
    /// Coefficients by the sorted factors of their term; none is zero.
    terms: BTreeMap<Vec<Factor>, i64>,
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
        Self { terms: BTreeMap::from_iter((n != 0).then(|| (Vec::new(), n))) }
    }

    /// A symbol.
    pub(crate) fn symbol(name: &str) -> Self {
        Self { terms: BTreeMap::from([(vec![Factor::Symbol(name.into())], 1)]) }
    }

    /// The number, where it depends on no symbol.
    pub(crate) fn as_fixed(&self) -> Option<i64> {
        match self.terms.len() {
            0 => Some(0),
            1 => self.terms.get(&Vec::new()[..]).copied(),
            _ => None,
        }
    }

    /// Whether it is the number `n`.
    pub(crate) fn is(&self, n: i64) -> bool {
        self.as_fixed() == Some(n)
    }

    /// The sum.
    pub(crate) fn plus(&self, other: &Self) -> Result<Self, String> {
        let mut sum = self.clone();
        for (factors, coefficient) in &other.terms {
            sum.add_term(factors.clone(), *coefficient)?;
        }
        Ok(sum)
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
        let mut product = Self::default();
        for (a, x) in &self.terms {
            for (b, y) in &other.terms {
                let mut factors: Vec<_> = a.iter().chain(b).cloned().collect();
                if factors.len() > MAX_FACTORS {
                    return Err(too_complicated());
                }
                factors.sort();
                product.add_term(factors, x.checked_mul(*y).ok_or_else(overflow)?)?;
            }
        }
        Ok(product)
    }

    /// The product of all; 1 for none.
    pub(crate) fn product<'a>(sizes: impl IntoIterator<Item = &'a Self>) -> Result<Self, String> {
        sizes.into_iter().try_fold(Self::fixed(1), |product, size| product.times(size))
    }

    /// Divided by the positive number `divisor` and rounded down.
    pub(crate) fn divided_down(&self, divisor: i64) -> Result<Self, String> {
        debug_assert!(divisor > 0, "callers check what the file says");
        // ⌊(d·q + r) / d⌋ = q + ⌊r / d⌋: what divides evenly comes out of the rounding.
        let (mut quotient, mut rest) = (Self::default(), Self::default());
        for (factors, coefficient) in &self.terms {
            let (q, r) = if factors.is_empty() || coefficient % divisor == 0 {
                (coefficient.div_euclid(divisor), coefficient.rem_euclid(divisor))
            } else {
                (0, *coefficient)
            };
            quotient.add_term(factors.clone(), q)?;
            rest.add_term(factors.clone(), r)?;
        }
        if rest.as_fixed().is_some() {
            return Ok(quotient);
        }
        let floor = match rest.nested_floor() {
            // ⌊(⌊a / b⌋ + c) / d⌋ = ⌊(a + b·c) / (b·d)⌋
            Some((inner, b, c)) => {
                let shift = b.checked_mul(c).ok_or_else(overflow)?;
                let divisor = b.checked_mul(divisor).ok_or_else(overflow)?;
                return quotient.plus(&inner.offset(shift)?.divided_down(divisor)?);
            }
            None if rest.weight() <= MAX_WEIGHT => Factor::Floor(Arc::new(rest), divisor),
            None => return Err(too_complicated()),
        };
        quotient.add_term(vec![floor], 1)?;
        Ok(quotient)
    }

    /// The quotient, where `divisor` is a single term that divides every term evenly.
    pub(crate) fn divided_evenly(&self, divisor: &Self) -> Option<Self> {
        if self == divisor {
            return Some(Self::fixed(1));
        }
        let (by, n) = divisor.terms.iter().next().filter(|_| divisor.terms.len() == 1)?;
        let mut quotient = Self::default();
        for (factors, coefficient) in &self.terms {
            let mut left = factors.clone();
            for factor in by {
                left.remove(left.iter().position(|f| f == factor)?);
            }
            let evenly = coefficient.checked_rem(*n)? == 0;
            quotient.add_term(left, evenly.then(|| coefficient / n)?).ok()?;
        }
        Some(quotient)
    }

    /// Whether it is at least `n` whatever the symbols are; `false` where that can't be told.
    pub(crate) fn at_least(&self, n: i64) -> bool {
        self.least().is_some_and(|least| least >= n)
    }

    /// A number that it is never below.
    fn least(&self) -> Option<i64> {
        self.terms.iter().try_fold(0i64, |sum, (factors, coefficient)| {
            // Of something that may be large nothing can be taken away.
            if !factors.is_empty() && *coefficient < 0 {
                return None;
            }
            let term = factors.iter().try_fold(*coefficient, |product, factor| {
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
        self.terms.iter().try_fold(0i64, |sum, (factors, coefficient)| {
            let term = factors.iter().try_fold(*coefficient, |product, factor| {
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
        for (factors, coefficient) in &self.terms {
            let mut term = Self::fixed(*coefficient);
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
        for factor in self.terms.keys().flatten() {
            match factor {
                Factor::Symbol(name) => {
                    into.insert(name.to_string());
                }
                Factor::Floor(size, _) => size.collect_symbols(into),
            }
        }
    }

    fn add_term(&mut self, factors: Vec<Factor>, coefficient: i64) -> Result<(), String> {
        let entry = self.terms.entry(factors);
        let old = match &entry {
            std::collections::btree_map::Entry::Occupied(old) => *old.get(),
            std::collections::btree_map::Entry::Vacant(_) => 0,
        };
        let new = old.checked_add(coefficient).ok_or_else(overflow)?;
        match entry {
            std::collections::btree_map::Entry::Occupied(old) if new == 0 => {
                old.remove();
            }
            std::collections::btree_map::Entry::Vacant(_) if new == 0 => {}
            entry => *entry.or_default() = new,
        }
        if self.terms.len() > MAX_TERMS { Err(too_complicated()) } else { Ok(()) }
    }

    /// `(a, b, c)` for ⌊a / b⌋ + c.
    fn nested_floor(&self) -> Option<(&Self, i64, i64)> {
        let constant = self.terms.get(&Vec::new()[..]).copied();
        let mut others = self.terms.iter().filter(|(factors, _)| !factors.is_empty());
        match (others.next()?, others.next()) {
            ((factors, 1), None) => match &factors[..] {
                [Factor::Floor(size, divisor)] => Some((size, *divisor, constant.unwrap_or(0))),
                _ => None,
            },
            _ => None,
        }
    }

    fn weight(&self) -> usize {
        let weight = |factor: &Factor| match factor {
            Factor::Symbol(_) => 1,
            Factor::Floor(size, _) => size.weight() + 1,
        };
        self.terms.keys().flatten().map(weight).sum()
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
        if self.terms.is_empty() {
            return f.write_str("0");
        }
        // Terms with symbols first, the plain number last: N·24, height + 1.
        let number = self.terms.iter().filter(|(factors, _)| factors.is_empty());
        let others = self.terms.iter().filter(|(factors, _)| !factors.is_empty());
        for (i, (factors, coefficient)) in others.chain(number).enumerate() {
            match (i, *coefficient < 0) {
                (0, true) => f.write_str("-")?,
                (0, false) => {}
                (_, true) => f.write_str("-")?,
                (_, false) => f.write_str("+")?,
            }
            let magnitude = coefficient.unsigned_abs();
            let mut parts: Vec<_> = factors.iter().map(ToString::to_string).collect();
            if magnitude != 1 || parts.is_empty() {
                parts.push(magnitude.to_string());
            }
            f.write_str(&parts.join("·"))?;
        }
        Ok(())
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symbol(name) => f.write_str(name),
            Self::Floor(size, divisor) if size.terms.len() == 1 => write!(f, "⌊{size}/{divisor}⌋"),
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

/// A shape for people: `N×3×416×416`; `scalar` for none.
pub(crate) fn shape_text(shape: &[Size]) -> String {
    if shape.is_empty() {
        return "scalar".into();
    }
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("×")
}

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
