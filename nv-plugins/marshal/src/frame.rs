use std::sync::Arc;

use nv_core::{
    Attachment, Captured, ColorInfo, Frame, FrameError, FrameHeader, FrameMemory, HostView, MAX_PLANES, MemoryKind,
    MonoTime, Name, PlaneView, Pts, Size, WallTime,
};
use nv_plugin_abi::abi_stable::std_types::{RSlice, RStr};
use nv_plugin_abi::{self as abi, Pixels, Plane};

use crate::MarshalError;
use crate::kinds::{
    captured_by_from_abi, captured_by_to_abi, color_matrix_from_abi, color_matrix_to_abi, color_range_from_abi,
    color_range_to_abi, memory_kind_from_abi, memory_kind_to_abi, pixel_format_from_abi, pixel_format_to_abi,
};

/// What travels with `frame`, to be lent to [`frame_to_abi`]. Costs nothing where there is nothing.
pub fn attachments_to_abi(frame: &Frame) -> Vec<abi::Attachment<'_>> {
    frame.attachments().iter().map(attachment_to_abi).collect()
}

fn attachment_to_abi(a: &Attachment) -> abi::Attachment<'_> {
    abi::Attachment { schema: RStr::from_str(&a.schema), data: RSlice::from_slice(&a.data) }
}

/// `frame` as it crosses: its pixels with a share in their owner.
pub fn frame_to_abi<'a>(frame: &Frame, attachments: &'a [abi::Attachment<'a>]) -> abi::Frame<'a> {
    let header = frame.header();
    abi::Frame {
        width: header.size.width,
        height: header.size.height,
        format: pixel_format_to_abi(header.format),
        range: color_range_to_abi(header.color.range),
        matrix: color_matrix_to_abi(header.color.matrix),
        memory: memory_kind_to_abi(frame.memory_kind()),
        suspect: header.suspect,
        captured_by: header.captured.map_or(abi::CapturedBy::NOTHING, |c| captured_by_to_abi(c.by)),
        captured_ns: header.captured.map_or(0, |c| c.at.as_unix_nanos()),
        pts_ns: header.pts.as_nanos(),
        received_ns: frame.received().as_nanos(),
        seq: frame.seq(),
        pixels: Pixels::new(Arc::new(frame.memory().clone()), |memory| planes(memory.as_ref())),
        attachments: RSlice::from_slice(attachments),
        ext: RSlice::EMPTY,
    }
}

fn planes(memory: &dyn FrameMemory) -> [Option<Plane<'_>>; abi::MAX_PLANES] {
    const { assert!(MAX_PLANES <= abi::MAX_PLANES) };
    let mut planes = [None; abi::MAX_PLANES];
    // Memory that the CPU can't read crosses without planes, and says of what kind it is.
    if let Ok(view) = memory.host() {
        for (to, from) in planes.iter_mut().zip(view.planes()) {
            *to = Some(Plane { data: from.data, stride: from.stride });
        }
    }
    planes
}

pub(crate) fn frame_from_abi(
    frame: &abi::Frame<'_>,
    mut intern: impl FnMut(&str) -> Name,
) -> Result<Frame, MarshalError> {
    let captured = match frame.captured_by {
        abi::CapturedBy::NOTHING => None,
        by => Some(Captured { at: WallTime::from_unix_nanos(frame.captured_ns), by: captured_by_from_abi(by)? }),
    };
    let header = FrameHeader {
        size: Size::new(frame.width, frame.height),
        format: pixel_format_from_abi(frame.format)?,
        color: ColorInfo { range: color_range_from_abi(frame.range)?, matrix: color_matrix_from_abi(frame.matrix)? },
        pts: Pts::from_nanos(frame.pts_ns),
        captured,
        suspect: frame.suspect,
    };
    let memory = ForeignMemory { kind: memory_kind_from_abi(frame.memory)?, pixels: frame.pixels.clone() };
    let mut native = Frame::new(header, Arc::new(memory))?.stamped(frame.seq, MonoTime::from_nanos(frame.received_ns));
    if !frame.attachments.is_empty() {
        let take = |a: &abi::Attachment<'_>| Attachment {
            schema: intern(a.schema.as_str()),
            data: Arc::from(a.data.as_slice()),
        };
        native = native.with_attachments(frame.attachments.iter().map(take).collect::<Vec<_>>());
    }
    Ok(native)
}

/// Pixels that belong to the other side. They are given back when the last clone of the frame is dropped.
struct ForeignMemory {
    kind: MemoryKind,
    pixels: Pixels,
}

impl FrameMemory for ForeignMemory {
    fn kind(&self) -> MemoryKind {
        self.kind
    }

    fn host(&self) -> Result<HostView<'_>, FrameError> {
        match self.kind {
            MemoryKind::Host => {
                Ok(HostView::new(self.pixels.planes().map(|p| PlaneView { data: p.data, stride: p.stride })))
            }
            kind => Err(FrameError::NotOnHost(kind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use nv_core::{CapturedBy, ColorMatrix, ColorRange, PixelFormat};
    use proptest::prelude::*;

    use super::*;
    use crate::Decoder;
    use crate::testing::any_frame;

    fn cross(frame: &Frame) -> Result<Frame, MarshalError> {
        let attachments = attachments_to_abi(frame);
        Decoder::default().frame(&frame_to_abi(frame, &attachments))
    }

    proptest! {
        #[test]
        fn frames_cross_unchanged_and_uncopied(frame in any_frame()) {
            let crossed = cross(&frame).unwrap();
            prop_assert_eq!(crossed.header(), frame.header());
            prop_assert_eq!((crossed.seq(), crossed.received()), (frame.seq(), frame.received()));
            prop_assert_eq!(crossed.attachments(), frame.attachments());
            let (there, here) = (crossed.host().unwrap(), frame.host().unwrap());
            prop_assert_eq!(there, here);
            for (there, here) in there.planes().iter().zip(here.planes()) {
                prop_assert_eq!(there.data.as_ptr(), here.data.as_ptr(), "the same memory");
            }
        }
    }

    /// Memory on a device, which tells when it is given back.
    struct DeviceMemory(Arc<AtomicBool>);

    impl FrameMemory for DeviceMemory {
        fn kind(&self) -> MemoryKind {
            MemoryKind::Device
        }

        fn host(&self) -> Result<HostView<'_>, FrameError> {
            Err(FrameError::NotOnHost(MemoryKind::Device))
        }
    }

    impl Drop for DeviceMemory {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn memory_is_given_back_when_the_last_clone_on_either_side_is_dropped() {
        let freed = Arc::new(AtomicBool::new(false));
        let header = FrameHeader::new(Size::new(4, 4), PixelFormat::Nv12);
        let frame = Frame::new(header, Arc::new(DeviceMemory(freed.clone()))).unwrap();
        let crossed = cross(&frame).unwrap();
        assert_eq!(crossed.host().unwrap_err(), FrameError::NotOnHost(MemoryKind::Device));
        let twice = cross(&crossed).unwrap();
        drop(frame);
        drop(crossed);
        assert!(!freed.load(Ordering::SeqCst));
        std::thread::spawn(move || drop(twice)).join().unwrap();
        assert!(freed.load(Ordering::SeqCst));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let frame = any_gray(4, 4);
        let attachments = attachments_to_abi(&frame);
        let good = frame_to_abi(&frame, &attachments);
        let check = |change: fn(&mut abi::Frame<'_>), expected: &str| {
            let mut bad = good.clone();
            change(&mut bad);
            let error = Decoder::default().frame(&bad).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(|f| f.format = abi::PixelFormat(77), "pixel format number 77 is not known");
        check(|f| f.matrix = abi::ColorMatrix(0), "colour matrix number 0 is not known");
        check(|f| f.memory = abi::MemoryKind(9), "kind of memory number 9 is not known");
        check(|f| f.height = 5, "Gray8 of 4×5: plane 0 needs 20 bytes, has 16");
        check(|f| f.width = 0, "a picture of 0×4 pixels is not possible");
    }

    fn any_gray(width: u32, height: u32) -> Frame {
        let header = FrameHeader {
            color: ColorInfo { range: ColorRange::Full, matrix: ColorMatrix::Bt2020 },
            captured: Some(Captured { at: WallTime::from_unix_nanos(1), by: CapturedBy::Arrival }),
            ..FrameHeader::new(Size::new(width, height), PixelFormat::Gray8)
        };
        nv_core::FramePool::new(0).take(header).unwrap().freeze()
    }
}
