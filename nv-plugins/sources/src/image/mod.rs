//! Still pictures as a stream of frames: one picture, a folder of them, or a pattern.

mod decode;
mod list;
mod source;

pub(crate) use list::{in_folder, matching};
pub(crate) use source::ImageSource;
