//! Networks whose answer to a picture is one list of numbers.

use nv_infer::TensorInfo;
use nv_plugin_sdk::Tensor;

use crate::network::Misfit;
use crate::plan::{PictureModel, list};

/// Which output of a network is the list, and how many numbers it has.
#[derive(Clone, Debug)]
pub(crate) struct VectorOutput {
    index: usize,
    name: String,
    /// Where the file says.
    pub(crate) len: Option<usize>,
}

impl VectorOutput {
    /// The output called `name`, or the only one.
    ///
    /// # Errors
    /// `Resource` where there is none of that name, there are several and none is named, or it is no list: it has more than one
    /// dimension behind the batch that is not 1.
    pub(crate) fn choose(
        model: &PictureModel,
        name: Option<&str>,
        task: &str,
    ) -> Result<Self, nv_plugin_sdk::StageError> {
        let outputs = model.model.outputs();
        let index = match name {
            Some(name) => outputs.iter().position(|o| o.name == name).ok_or_else(|| {
                model.refused(format!("it has no output {name:?}; its outputs are {}", list(outputs)))
            })?,
            None if outputs.len() == 1 => 0,
            None => {
                return Err(model.refused(format!(
                    "it has {} outputs: {}: say which with the key output",
                    outputs.len(),
                    list(outputs)
                )));
            }
        };
        let info = &outputs[index];
        let len = list_len(info).ok_or_else(|| {
            model.refused(format!(
                "its output {} {} is no list of numbers for each picture, as {task} needs",
                info.name,
                info.shape_text()
            ))
        })?;
        Ok(Self { index, name: info.name.clone(), len })
    }

    /// The numbers of entry `entry`.
    ///
    /// # Errors
    /// The output is not there, or not of the length that the file says.
    pub(crate) fn of<'a>(&self, outputs: &'a [Tensor], entry: usize) -> Result<&'a [f32], Misfit> {
        let values = outputs.get(self.index).and_then(|tensor| tensor.outer(entry));
        let fit = values.filter(|values| !values.is_empty() && self.len.is_none_or(|len| len == values.len()));
        fit.ok_or_else(|| {
            let found = outputs.get(self.index).map(Tensor::shape).unwrap_or_default();
            let needed = self.len.map_or("some".into(), |len| len.to_string());
            Misfit::model(format!(
                "output {} has the shape {found:?}, and {needed} numbers are needed for each picture",
                self.name
            ))
        })
    }
}

/// How many numbers an output has for each entry, or `Some(None)` where the file leaves it open; `None` where it is no list.
fn list_len(info: &TensorInfo) -> Option<Option<usize>> {
    let Some(shape) = &info.shape else { return Some(None) };
    let (_, behind) = shape.split_first()?;
    let mut long = behind.iter().filter(|dim| dim.fixed() != Some(1));
    let len = long.next().or(behind.first())?.fixed();
    long.next().is_none().then_some(len)
}

#[cfg(test)]
mod tests {
    use nv_infer::{Dim, ElementType};

    use super::*;

    #[test]
    fn a_list_has_one_long_dimension() {
        fn check(dims: &[usize], expected: Option<Option<usize>>) {
            let dim = |&n: &usize| if n == 0 { "n".into() } else { Dim::Fixed(n) };
            let shape = Some(dims.iter().map(dim).collect());
            let info = TensorInfo { name: "y".into(), element: ElementType::Float, shape };
            assert_eq!(list_len(&info), expected, "{dims:?}");
        }
        check(&[1, 1000], Some(Some(1000)));
        check(&[0, 7, 1, 1], Some(Some(7)));
        check(&[1, 1, 1, 1280], Some(Some(1280)));
        check(&[1, 1], Some(Some(1)));
        check(&[1, 0], Some(None));
        check(&[1, 84, 8400], None);
        check(&[1, 0, 0], None);
        check(&[1], None);
        check(&[], None);
    }
}
