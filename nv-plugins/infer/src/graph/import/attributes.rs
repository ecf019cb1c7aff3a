//! The attributes of a node, read by the type that they must have.

use rten_onnx::onnx::{AttributeProto, AttributeType, TensorProto};

use crate::graph::constant::Constant;
use crate::text::short_name;

/// A node's attributes.
pub(super) struct Attributes<'a>(pub(super) &'a mut [AttributeProto]);

impl Attributes<'_> {
    pub(super) fn int(&mut self, name: &str, default: i64) -> Result<i64, String> {
        Ok(self.optional_int(name)?.unwrap_or(default))
    }

    pub(super) fn optional_int(&mut self, name: &str) -> Result<Option<i64>, String> {
        self.find(name, AttributeType::INT, "a whole number")?.map_or(Ok(None), |a| Ok(a.i.or(Some(0))))
    }

    pub(super) fn flag(&mut self, name: &str, default: bool) -> Result<bool, String> {
        Ok(self.optional_int(name)?.map_or(default, |v| v != 0))
    }

    /// At least 1.
    pub(super) fn positive(&mut self, name: &str) -> Result<i64, String> {
        match self.optional_int(name)? {
            Some(value) if value > 0 => Ok(value),
            Some(value) => Err(format!("{name} is {value}, at least 1 is needed")),
            None => Err(format!("it has no {name}")),
        }
    }

    pub(super) fn float(&mut self, name: &str, default: f32) -> Result<f32, String> {
        Ok(self.optional_float(name)?.unwrap_or(default))
    }

    /// A number that is neither infinite nor none at all.
    pub(super) fn optional_float(&mut self, name: &str) -> Result<Option<f32>, String> {
        match self.any_float(name)? {
            Some(value) if !value.is_finite() => Err(format!("{name} is {value}")),
            value => Ok(value),
        }
    }

    /// Any number; exporters write bounds that are infinite.
    pub(super) fn any_float(&mut self, name: &str) -> Result<Option<f32>, String> {
        self.find(name, AttributeType::FLOAT, "a number")?.map_or(Ok(None), |a| Ok(a.f.or(Some(0.0))))
    }

    pub(super) fn ints(&mut self, name: &str) -> Result<Option<Vec<i64>>, String> {
        Ok(self.find(name, AttributeType::INTS, "a list of whole numbers")?.map(|a| a.ints.clone()))
    }

    pub(super) fn floats(&mut self, name: &str) -> Result<Option<Vec<f32>>, String> {
        Ok(self.find(name, AttributeType::FLOATS, "a list of numbers")?.map(|a| a.floats.clone()))
    }

    /// The tensor, whose values are taken over.
    pub(super) fn tensor(&mut self, name: &str) -> Result<Option<Constant>, String> {
        let Some(attribute) = self.find(name, AttributeType::TENSOR, "a tensor")? else { return Ok(None) };
        let mut empty = TensorProto::default();
        let tensor = attribute.t.as_mut().unwrap_or(&mut empty);
        Constant::read(tensor).map(Some).map_err(|reason| format!("its attribute {name}: {reason}"))
    }

    /// The one of `choices` that the attribute names; the first where it is left out.
    pub(super) fn choice<T: Copy>(&mut self, name: &str, choices: &[(&str, T)]) -> Result<T, String> {
        let Some(attribute) = self.find(name, AttributeType::STRING, "a text")? else { return Ok(choices[0].1) };
        let text = attribute.s.as_deref().unwrap_or_default();
        choices.iter().find(|(choice, _)| *choice == text).map(|(_, value)| *value).ok_or_else(|| {
            let known: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
            format!("{name} is {:?}; known are {}", short_name(text), known.join(", "))
        })
    }

    fn find(&mut self, name: &str, kind: AttributeType, what: &str) -> Result<Option<&mut AttributeProto>, String> {
        let found = self.0.iter_mut().find(|a| a.name.as_deref() == Some(name));
        match found {
            // Files before IR version 3 leave the type out.
            Some(a) if a.r#type.is_some_and(|t| t != kind && t != AttributeType::UNDEFINED) => {
                Err(format!("its attribute {name} is not {what}"))
            }
            found => Ok(found),
        }
    }
}
