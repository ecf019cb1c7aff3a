use thiserror::Error;

/// A dense array of `f32` in row-major order (the last dimension varies fastest).
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Vec<f32>,
}

/// A shape and a number of values that don't go together.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("shape {shape:?} does not hold {values} values")]
pub struct TensorError {
    shape: Vec<usize>,
    values: usize,
}

impl Tensor {
    /// A tensor of `shape` over `data`, which holds exactly the product of the dimensions.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Result<Self, TensorError> {
        let shape = shape.into();
        match element_count(&shape) {
            Some(count) if count == data.len() => Ok(Self { shape, data }),
            _ => Err(TensorError { shape, values: data.len() }),
        }
    }

    /// A tensor of `shape` full of zeros.
    ///
    /// # Panics
    /// Where the product of the dimensions overflows.
    pub fn zeros(shape: impl Into<Vec<usize>>) -> Self {
        let shape = shape.into();
        let count = element_count(&shape).expect("a shape's element count fits in usize");
        Self { shape, data: vec![0.0; count] }
    }

    /// The dimensions, outermost first. Empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values in row-major order.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The values in row-major order, to be changed in place.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// The values, without the shape.
    pub fn into_data(self) -> Vec<f32> {
        self.data
    }

    /// The part at index `i` of the outermost dimension, or `None` past its end or for a scalar.
    pub fn outer(&self, i: usize) -> Option<&[f32]> {
        let &rows = self.shape.first()?;
        (i < rows).then(|| {
            let row = self.data.len() / rows;
            &self.data[i * row..(i + 1) * row]
        })
    }
}

fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_and_values_must_agree() {
        fn check(shape: &[usize], values: usize, fits: bool) {
            assert_eq!(Tensor::new(shape, vec![0.0; values]).is_ok(), fits, "{shape:?} {values}");
        }
        check(&[2, 3], 6, true);
        check(&[2, 3], 5, false);
        check(&[], 1, true);
        check(&[0, 7], 0, true);
        check(&[usize::MAX, 2], 0, false);
    }

    #[test]
    fn outer_slices_the_first_dimension() {
        let t = Tensor::new([2, 2], vec![1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!(t.outer(1), Some(&[3.0, 4.0][..]));
        assert_eq!(t.outer(2), None);
        assert_eq!(Tensor::zeros([0, 4]).outer(0), None);
    }
}
