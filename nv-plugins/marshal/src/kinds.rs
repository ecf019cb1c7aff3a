//! The constants: each native enum and its numbers at the boundary.

use nv_core::{CapturedBy, ColorMatrix, ColorRange, MemoryKind, PixelFormat};
use nv_perception::{StageErrorKind, TrackState};
use nv_plugin_abi as abi;

use crate::MarshalError;

/// Two functions for one enum. Where the native enum may grow, a variant that has no number yet has the one after `or`.
macro_rules! kinds {
    ($native:ident <-> $abi:ident, $to:ident, $from:ident, $what:literal, { $($variant:ident = $number:ident,)* }
        $(or $fallback:expr)?) => {
        pub(crate) fn $to(native: $native) -> abi::$abi {
            match native {
                $($native::$variant => abi::$abi::$number,)*
                $(_ => $fallback,)?
            }
        }

        pub(crate) fn $from(number: abi::$abi) -> Result<$native, MarshalError> {
            match number {
                $(abi::$abi::$number => Ok($native::$variant),)*
                abi::$abi(value) => Err(MarshalError::Unknown { what: $what, value }),
            }
        }
    };
}

/// The number of what this version of the boundary has no number for: the receiver says that it does not know it.
const UNNUMBERED: u32 = u32::MAX;

kinds! { PixelFormat <-> PixelFormat, pixel_format_to_abi, pixel_format_from_abi, "pixel format", {
    I420 = I420,
    Nv12 = NV12,
    Rgb8 = RGB8,
    Bgr8 = BGR8,
    Rgba8 = RGBA8,
    Gray8 = GRAY8,
} or abi::PixelFormat(UNNUMBERED) }

kinds! { ColorRange <-> ColorRange, color_range_to_abi, color_range_from_abi, "colour range", {
    Limited = LIMITED,
    Full = FULL,
} }

kinds! { ColorMatrix <-> ColorMatrix, color_matrix_to_abi, color_matrix_from_abi, "colour matrix", {
    Bt601 = BT601,
    Bt709 = BT709,
    Bt2020 = BT2020,
} or abi::ColorMatrix(UNNUMBERED) }

kinds! { MemoryKind <-> MemoryKind, memory_kind_to_abi, memory_kind_from_abi, "kind of memory", {
    Host = HOST,
    Device = DEVICE,
    Released = RELEASED,
} or abi::MemoryKind(UNNUMBERED) }

kinds! { CapturedBy <-> CapturedBy, captured_by_to_abi, captured_by_from_abi, "quality of a capture time", {
    SenderReport = SENDER_REPORT,
    Arrival = ARRIVAL,
} or abi::CapturedBy(UNNUMBERED) }

kinds! { TrackState <-> TrackState, track_state_to_abi, track_state_from_abi, "track state", {
    Tentative = TENTATIVE,
    Confirmed = CONFIRMED,
    Coasted = COASTED,
    Lost = LOST,
} }

kinds! { StageErrorKind <-> ErrorKind, error_kind_to_abi, error_kind_from_abi, "kind of error", {
    Config = CONFIG,
    Resource = RESOURCE,
    NoDevice = NO_DEVICE,
    Input = INPUT,
    Transient = TRANSIENT,
    Unsupported = UNSUPPORTED,
    DeviceLost = DEVICE_LOST,
    Panic = PANIC,
    Fatal = FATAL,
} or abi::ErrorKind(UNNUMBERED) }
