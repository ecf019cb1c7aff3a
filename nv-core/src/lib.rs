//! The values that every part of NextVision speaks, and nothing that acts.
//!
//! - [`Name`]: an interned string, for everything that config or a plugin may name.
//! - [`MonoTime`], [`Pts`], [`Captured`] and [`Clock`]: the three times of a frame, and where "now" comes from.
//! - [`BBox`], [`Point`], [`Size`]: geometry in source pixels.
//! - [`Frame`]: one picture, planar, immutable and cheap to clone; [`FramePool`] recycles its memory.
//! - [`Tensor`]: a dense `f32` array with a shape.
//! - [`DropReason`] and [`HealthEvent`]: what can happen to a frame and to a feed.
//! - [`CancelToken`]: how one thread tells another to stop waiting.
//!
//! ```
//! use nv_core::{BBox, Size};
//!
//! let person = BBox::new(-4.0, 10.0, 60.0, 200.0);
//! let clipped = person.clip(Size::new(640, 480));
//! assert_eq!(clipped, BBox::new(0.0, 10.0, 60.0, 200.0));
//! ```

mod cancel;
mod fate;
mod frame;
mod frame_memory;
mod geometry;
mod health;
mod name;
mod tensor;
mod time;

pub use cancel::CancelToken;
pub use fate::DropReason;
pub use frame::{Attachment, ColorInfo, ColorMatrix, ColorRange, Frame, FrameHeader, PixelFormat, PlaneShape};
pub use frame_memory::{
    FrameBuffer, FrameError, FrameMemory, FramePool, HostView, MAX_PLANES, MemoryKind, OwnedPlane, OwnedPlanes,
    PlaneView,
};
pub use geometry::{BBox, Point, Size};
pub use health::{HealthEvent, HealthKind, HealthTopic, Severity};
pub use name::Name;
pub use tensor::{Tensor, TensorError};
pub use time::{Captured, CapturedBy, Clock, ManualClock, MonoTime, Pts, SystemClock, WallTime, serialize_as_ms};
