use nv_core::{Frame, PixelFormat};

/// A cell is one macroblock's quarter: large enough to survive any codec at any usable rate.
const CELL: u32 = 8;
/// High byte, low byte, check byte.
const ROWS: u32 = 3;
const COLUMNS: u32 = 8;

const WIDTH: u32 = COLUMNS * CELL;
/// Rows of pixels that the frame number takes.
pub(super) const HEIGHT: u32 = ROWS * CELL;

/// Reads the frame number that a [`SyntheticScene`](super::SyntheticScene) coded into the top-left corner.
///
/// `None` where there is none, where damage makes the check byte disagree, or where the picture was scaled or cropped, or
/// its pixels are not in host memory.
pub fn read_frame_number(frame: &Frame) -> Option<u16> {
    let size = frame.size();
    if size.width < WIDTH || size.height < HEIGHT {
        return None;
    }
    // Bytes from pixel to pixel, and where in a pixel the brightness is (of RGB: the green).
    let (step, offset) = match frame.format() {
        PixelFormat::I420 | PixelFormat::Nv12 | PixelFormat::Gray8 => (1, 0),
        PixelFormat::Rgb8 | PixelFormat::Bgr8 => (3, 1),
        PixelFormat::Rgba8 => (4, 1),
        _ => return None,
    };
    let plane = frame.host().ok()?.planes().first().copied()?;
    let bit = |column: u32, row: u32| {
        // The middle quarter of the cell: ringing is at the edges.
        let inside = |i: u32| (i * CELL + CELL / 4)..(i * CELL + 3 * CELL / 4);
        let mut sum = 0u32;
        for y in inside(row) {
            for x in inside(column) {
                sum += u32::from(plane.data[y as usize * plane.stride + x as usize * step + offset]);
            }
        }
        sum / (CELL * CELL / 4) >= 128
    };
    let byte = |row: u32| (0..COLUMNS).fold(0u8, |byte, column| byte << 1 | u8::from(bit(column, row)));
    let [high, low, check] = [byte(0), byte(1), byte(2)];
    (check == check_byte(high, low)).then(|| u16::from_be_bytes([high, low]))
}

/// Draws `number` into a luma plane of `stride` bytes a row, which must hold at least [`WIDTH`] × [`HEIGHT`] pixels.
pub(super) fn draw(number: u16, luma: &mut [u8], stride: usize) {
    let [high, low] = number.to_be_bytes();
    for (row, byte) in (0u32..).zip([high, low, check_byte(high, low)]) {
        for column in 0..COLUMNS {
            let level = if byte >> (COLUMNS - 1 - column) & 1 == 1 { 235 } else { 16 };
            for y in row * CELL..(row + 1) * CELL {
                let start = y as usize * stride + (column * CELL) as usize;
                luma[start..start + CELL as usize].fill(level);
            }
        }
    }
}

/// Never 0 for 0 or 255 for 65535, so that plain black or white is no frame number.
fn check_byte(high: u8, low: u8) -> u8 {
    high.rotate_left(3) ^ low ^ 0xa5
}

#[cfg(test)]
mod tests {
    use super::*;
    use nv_core::{FrameHeader, FramePool, Size};

    /// A picture of `format` with `number` drawn, each sample then changed by `noise`.
    fn picture(format: PixelFormat, number: u16, noise: impl Fn(usize, u8) -> u8) -> Frame {
        let mut luma = vec![90u8; 96 * 64];
        draw(number, &mut luma, 96);
        let header = FrameHeader::new(Size::new(96, 64), format);
        let mut buffer = FramePool::new(0).take(header).unwrap();
        let step = buffer.plane_mut(0).len() / luma.len();
        for (i, sample) in buffer.plane_mut(0).iter_mut().enumerate() {
            *sample = noise(i, luma[i / step]);
        }
        buffer.freeze()
    }

    #[test]
    fn every_number_is_read_back() {
        for number in (0..=u16::MAX).step_by(251).chain([1, 65_535]) {
            let frame = picture(PixelFormat::Gray8, number, |_, v| v);
            assert_eq!(read_frame_number(&frame), Some(number));
        }
    }

    #[test]
    fn every_format_is_read() {
        for format in [PixelFormat::I420, PixelFormat::Nv12, PixelFormat::Rgb8, PixelFormat::Bgr8, PixelFormat::Rgba8] {
            assert_eq!(read_frame_number(&picture(format, 0x5a3c, |_, v| v)), Some(0x5a3c), "{format:?}");
        }
    }

    #[test]
    fn noise_is_outvoted_and_damage_is_noticed() {
        let noisy = picture(PixelFormat::Gray8, 1234, |i, v| {
            v.saturating_add((i * 37 % 90) as u8).saturating_sub((i * 53 % 90) as u8)
        });
        assert_eq!(read_frame_number(&noisy), Some(1234));
        let damaged = picture(PixelFormat::Gray8, 1234, |i, v| if i % 96 < 8 { 255 - v } else { v });
        assert_eq!(read_frame_number(&damaged), None);
        for level in [0, 16, 128, 235, 255] {
            assert_eq!(read_frame_number(&picture(PixelFormat::Gray8, 0, |_, _| level)), None);
        }
    }
}
