use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use thiserror::Error;

use crate::{Frame, FrameHeader, PixelFormat, Size};

/// The most planes that a format has.
pub const MAX_PLANES: usize = 4;

/// Where a frame's pixels are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemoryKind {
    /// In this process's address space.
    Host,
    /// In device memory; readable by whoever knows the concrete type, not by the CPU.
    Device,
    /// Given back to its owner before the frame's end.
    Released,
}

/// What can be wrong with a frame's memory.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The pixels can't be read by the CPU.
    #[error("the CPU can't read the frame's pixels: its memory is {0:?}")]
    NotOnHost(MemoryKind),
    /// A plane does not fit the format and size.
    #[error("{format:?} of {}×{}: plane {plane} needs {need}, has {have}", size.width, size.height)]
    Layout {
        /// The frame's format.
        format: PixelFormat,
        /// The frame's size.
        size: Size,
        /// The plane.
        plane: usize,
        /// What the plane needs.
        need: String,
        /// What it has.
        have: String,
    },
    /// The picture has no pixels, or more than memory can address.
    #[error("a picture of {}×{} pixels is not possible", .0.width, .0.height)]
    Size(Size),
}

/// The owner of a frame's pixels: a pool's buffer, a decoder's, a plugin's. Dropped when the frame's last clone is.
///
/// Code that knows how to use one kind of memory finds it with [`Frame::memory_as`].
pub trait FrameMemory: Any + Send + Sync {
    /// Where the pixels are.
    fn kind(&self) -> MemoryKind;

    /// The pixels, if the CPU can read them. The view must be the same each time.
    ///
    /// # Errors
    /// [`FrameError::NotOnHost`] where it can't.
    fn host(&self) -> Result<HostView<'_>, FrameError>;
}

/// One plane of pixels, borrowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlaneView<'a> {
    /// The bytes, first row first; at least `stride · (rows − 1) + row_bytes` of them.
    pub data: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
}

impl<'a> PlaneView<'a> {
    /// Row `y`, from its first byte to `row_bytes`.
    ///
    /// # Panics
    /// Where the plane has no such row.
    pub fn row(&self, y: usize, row_bytes: usize) -> &'a [u8] {
        let start = y * self.stride;
        &self.data[start..start + row_bytes]
    }
}

/// A frame's pixels in host memory, borrowed: up to [`MAX_PLANES`] planes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostView<'a> {
    planes: [PlaneView<'a>; MAX_PLANES],
    count: usize,
}

impl<'a> HostView<'a> {
    /// A view of `planes`; past [`MAX_PLANES`] they are left out.
    pub fn new(planes: impl IntoIterator<Item = PlaneView<'a>>) -> Self {
        let mut view = Self::default();
        for plane in planes.into_iter().take(MAX_PLANES) {
            view.planes[view.count] = plane;
            view.count += 1;
        }
        view
    }

    /// The planes, in the format's order.
    pub fn planes(&self) -> &[PlaneView<'a>] {
        &self.planes[..self.count]
    }

    /// Plane `i`.
    ///
    /// # Panics
    /// Where there is no such plane.
    pub fn plane(&self, i: usize) -> PlaneView<'a> {
        self.planes()[i]
    }

    /// Whether the planes hold a picture of `format` and `size`. [`Frame::new`] asks this, so that readers need not.
    ///
    /// # Errors
    /// [`FrameError::Layout`] for the first plane that doesn't fit; [`FrameError::Size`] for a picture without pixels.
    pub fn check(&self, format: PixelFormat, size: Size) -> Result<(), FrameError> {
        if size.width == 0 || size.height == 0 {
            return Err(FrameError::Size(size));
        }
        for plane in 0..format.plane_count() {
            let shape = format.plane_shape(plane, size);
            let error = |need: String, have: String| FrameError::Layout { format, size, plane, need, have };
            let Some(view) = self.planes().get(plane) else {
                return Err(error("to be there".into(), format!("only {} planes", self.count)));
            };
            if view.stride < shape.row_bytes {
                return Err(error(
                    format!("rows of {} bytes", shape.row_bytes),
                    format!("a stride of {}", view.stride),
                ));
            }
            let need = view.stride.checked_mul(shape.rows - 1).and_then(|n| n.checked_add(shape.row_bytes));
            match need {
                Some(need) if need <= view.data.len() => {}
                Some(need) => {
                    return Err(error(format!("{need} bytes"), view.data.len().to_string()));
                }
                None => return Err(FrameError::Size(size)),
            }
        }
        Ok(())
    }
}

/// A plane that is owned, as decoders hand them out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedPlane {
    /// The bytes, first row first.
    pub data: Vec<u8>,
    /// Bytes from one row to the next.
    pub stride: usize,
}

/// Frame memory of separately allocated planes, freed with the frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedPlanes(pub Vec<OwnedPlane>);

impl FrameMemory for OwnedPlanes {
    fn kind(&self) -> MemoryKind {
        MemoryKind::Host
    }

    fn host(&self) -> Result<HostView<'_>, FrameError> {
        Ok(HostView::new(self.0.iter().map(|p| PlaneView { data: &p.data, stride: p.stride })))
    }
}

/// What a frame has in the place of pixels that it gave back.
#[derive(Debug)]
pub(crate) struct ReleasedMemory;

impl FrameMemory for ReleasedMemory {
    fn kind(&self) -> MemoryKind {
        MemoryKind::Released
    }

    fn host(&self) -> Result<HostView<'_>, FrameError> {
        Err(FrameError::NotOnHost(MemoryKind::Released))
    }
}

/// Recycles the memory of frames. Clones share one pool; at most `keep` idle buffers are kept.
///
/// ```
/// use nv_core::{FrameHeader, FramePool, PixelFormat, Size};
///
/// let pool = FramePool::new(4);
/// let mut buffer = pool.take(FrameHeader::new(Size::new(64, 48), PixelFormat::Rgb8)).unwrap();
/// buffer.plane_mut(0).fill(128);
/// let frame = buffer.freeze();
/// assert_eq!(frame.host().unwrap().plane(0).row(47, 64 * 3)[0], 128);
/// ```
#[derive(Clone, Debug)]
pub struct FramePool(Arc<PoolShared>);

#[derive(Debug)]
struct PoolShared {
    idle: Mutex<Vec<Vec<u8>>>,
    keep: usize,
}

impl FramePool {
    /// A pool that keeps at most `keep` buffers that nobody uses.
    pub fn new(keep: usize) -> Self {
        Self(Arc::new(PoolShared { idle: Mutex::new(Vec::new()), keep }))
    }

    /// A buffer to be filled with a picture. Its bytes are what an earlier picture left, or zero.
    ///
    /// # Errors
    /// [`FrameError::Size`] where the picture has no pixels or can't be addressed.
    pub fn take(&self, header: FrameHeader) -> Result<FrameBuffer, FrameError> {
        let (size, format) = (header.size, header.format);
        if size.width == 0 || size.height == 0 {
            return Err(FrameError::Size(size));
        }
        let mut planes = [(0, 0); MAX_PLANES];
        let mut total = 0usize;
        for (i, plane) in planes.iter_mut().enumerate().take(format.plane_count()) {
            let shape = format.plane_shape(i, size);
            let bytes = shape.row_bytes.checked_mul(shape.rows).ok_or(FrameError::Size(size))?;
            *plane = (total, shape.row_bytes);
            total = total.checked_add(bytes).ok_or(FrameError::Size(size))?;
        }
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let at = idle.iter().position(|b| b.capacity() >= total);
        // Where none is large enough one grows: else small ones would fill the pool for ever once pictures get larger.
        let mut data = at.map(|at| idle.swap_remove(at)).or_else(|| idle.pop()).unwrap_or_default();
        drop(idle);
        if data.capacity() < total {
            data = Vec::new();
        }
        data.resize(total, 0);
        Ok(FrameBuffer {
            header,
            memory: PoolMemory { data, planes, count: format.plane_count(), pool: Arc::downgrade(&self.0) },
        })
    }
}

/// A pool's buffer while it is being filled.
#[derive(Debug)]
pub struct FrameBuffer {
    header: FrameHeader,
    memory: PoolMemory,
}

impl FrameBuffer {
    /// The bytes of plane `i`, rows without padding.
    ///
    /// # Panics
    /// Where the format has no such plane.
    pub fn plane_mut(&mut self, i: usize) -> &mut [u8] {
        let range = self.memory.range(i);
        &mut self.memory.data[range]
    }

    /// Ends the filling: the picture as a frame, never to change again.
    pub fn freeze(self) -> Frame {
        Frame::new(self.header, Arc::new(self.memory)).expect("the pool laid the planes out for this header")
    }
}

#[derive(Debug)]
struct PoolMemory {
    data: Vec<u8>,
    /// Offset and stride of each plane.
    planes: [(usize, usize); MAX_PLANES],
    count: usize,
    pool: Weak<PoolShared>,
}

impl PoolMemory {
    fn range(&self, plane: usize) -> std::ops::Range<usize> {
        let planes = &self.planes[..self.count];
        let end = planes.get(plane + 1).map_or(self.data.len(), |next| next.0);
        planes[plane].0..end
    }
}

impl FrameMemory for PoolMemory {
    fn kind(&self) -> MemoryKind {
        MemoryKind::Host
    }

    fn host(&self) -> Result<HostView<'_>, FrameError> {
        Ok(HostView::new(
            (0..self.count).map(|i| PlaneView { data: &self.data[self.range(i)], stride: self.planes[i].1 }),
        ))
    }
}

impl Drop for PoolMemory {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            let mut idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < pool.keep {
                idle.push(std::mem::take(&mut self.data));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(format: PixelFormat, width: u32, height: u32) -> FrameHeader {
        FrameHeader::new(Size::new(width, height), format)
    }

    #[test]
    fn planes_must_fit_the_format() {
        fn check(format: PixelFormat, planes: &[(usize, usize)], expected: Option<&str>) {
            let planes = planes.iter().map(|&(len, stride)| OwnedPlane { data: vec![0; len], stride }).collect();
            let error = Frame::new(header(format, 5, 3), Arc::new(OwnedPlanes(planes))).err().map(|e| e.to_string());
            assert_eq!(error.as_deref(), expected);
        }
        check(PixelFormat::I420, &[(15, 5), (6, 3), (6, 3)], None);
        // The last row may end where the picture does, short of the stride.
        check(PixelFormat::Gray8, &[(8 + 8 + 5, 8)], None);
        check(PixelFormat::Gray8, &[(8 + 8 + 4, 8)], Some("Gray8 of 5×3: plane 0 needs 21 bytes, has 20"));
        check(PixelFormat::I420, &[(15, 5), (6, 3)], Some("I420 of 5×3: plane 2 needs to be there, has only 2 planes"));
        check(PixelFormat::Rgb8, &[(100, 14)], Some("Rgb8 of 5×3: plane 0 needs rows of 15 bytes, has a stride of 14"));
    }

    #[test]
    fn a_picture_without_pixels_is_refused() {
        assert!(matches!(FramePool::new(1).take(header(PixelFormat::Nv12, 0, 4)), Err(FrameError::Size(_))));
        let memory = Arc::new(OwnedPlanes(vec![OwnedPlane { data: vec![], stride: 0 }]));
        assert!(matches!(Frame::new(header(PixelFormat::Gray8, 4, 0), memory), Err(FrameError::Size(_))));
    }

    #[test]
    fn the_pool_takes_back_what_the_last_clone_held_and_no_more_than_it_keeps() {
        let pool = FramePool::new(1);
        let frames: Vec<_> = (0..3).map(|_| pool.take(header(PixelFormat::I420, 8, 8)).unwrap().freeze()).collect();
        let clone = frames[0].clone();
        drop(frames);
        assert_eq!(pool.0.idle.lock().unwrap().len(), 1);
        drop(clone);
        assert_eq!(pool.0.idle.lock().unwrap().len(), 1, "two more came back, one is kept");
        let again = pool.take(header(PixelFormat::I420, 8, 8)).unwrap();
        assert_eq!(pool.0.idle.lock().unwrap().len(), 0, "the idle buffer is used again");
        drop(pool);
        drop(again.freeze());
    }

    #[test]
    fn the_pool_follows_pictures_that_grow() {
        let pool = FramePool::new(1);
        drop(pool.take(header(PixelFormat::Gray8, 8, 8)).unwrap().freeze());
        drop(pool.take(header(PixelFormat::Gray8, 64, 64)).unwrap().freeze());
        let kept: Vec<_> = pool.0.idle.lock().unwrap().iter().map(Vec::capacity).collect();
        assert!(kept.len() == 1 && kept[0] >= 64 * 64, "{kept:?}");
    }

    #[test]
    fn a_kind_of_memory_is_found_by_its_type() {
        let frame = FramePool::new(0).take(header(PixelFormat::Gray8, 8, 8)).unwrap().freeze();
        assert_eq!(frame.memory_as::<PoolMemory>().map(|m| m.data.len()), Some(64));
        assert!(frame.memory_as::<OwnedPlanes>().is_none());
    }

    #[test]
    fn a_frame_without_pixels_gives_its_memory_back() {
        let pool = FramePool::new(1);
        let frame = pool.take(header(PixelFormat::Gray8, 8, 8)).unwrap().freeze().stamped(7, crate::MonoTime::ZERO);
        let shell = frame.without_pixels();
        drop(frame);
        assert_eq!(pool.0.idle.lock().unwrap().len(), 1);
        assert_eq!((shell.seq(), shell.size().width), (7, 8));
        assert_eq!(shell.host().unwrap_err(), FrameError::NotOnHost(MemoryKind::Released));
    }

    #[test]
    fn plane_ranges_do_not_overlap() {
        let mut buffer = FramePool::new(0).take(header(PixelFormat::I420, 5, 3)).unwrap();
        for i in 0..3 {
            buffer.plane_mut(i).fill(i as u8 + 1);
        }
        let frame = buffer.freeze();
        let view = frame.host().unwrap();
        for (i, plane) in view.planes().iter().enumerate() {
            assert!(plane.data.iter().all(|&b| b == i as u8 + 1));
        }
    }
}
