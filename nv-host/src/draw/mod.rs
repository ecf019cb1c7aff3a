//! Pictures of what was found: the frame in RGB, with boxes, ids and labels drawn in.

mod canvas;
mod color;
mod convert;
mod labels;
mod overlay;
mod text;

pub(crate) use canvas::Canvas;
pub(crate) use overlay::draw;
