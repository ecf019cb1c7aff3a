// From frames as decoders leave them to a network's input: colour, size, normalisation, layout. One invocation for each
// pixel of the input, one layer of workgroups for each picture of the batch.

struct Picture {
    // What it fills of the input: left, top, width, height.
    place: vec4<u32>,
    // Its first tap of columns and of lines at full resolution, of columns and of lines at half of it.
    taps: vec4<u32>,
    // For each channel, the byte that column 0 of line 0 has or would have.
    base: vec4<u32>,
    // For each channel, the bytes from one line to the next. Last: how many channels, negative if they are Y, Cb, Cr.
    stride: vec4<i32>,
    // Luma: added, then multiplied. The rest is not used.
    luma: vec4<f32>,
    // Red from Cr, green from Cb and from Cr, blue from Cb.
    chroma: vec4<f32>,
}

struct Batch {
    // Width and height of the input. The rest is not used.
    size: vec4<u32>,
    // For red, green and blue.
    mul: vec4<f32>,
    add: vec4<f32>,
    plane: vec4<u32>,
    // What is not covered, for red, green and blue.
    pad: vec4<f32>,
    pictures: array<Picture>,
}

@group(0) @binding(0) var<storage, read> batch: Batch;
// Two samples of a line, or two lines, and their weights.
@group(0) @binding(1) var<storage, read> taps: array<vec4<u32>>;
// Bytes, four to a word.
@group(0) @binding(2) var<storage, read> frames: array<u32>;

fn byte(at: u32) -> i32 {
    return i32((frames[at >> 2u] >> ((at & 3u) * 8u)) & 255u);
}

fn stretched(line: u32, column: vec4<u32>) -> i32 {
    return (byte(line + column.x) * i32(column.z) + byte(line + column.y) * i32(column.w)) >> 4u;
}

fn channel(base: u32, stride: i32, column: vec4<u32>, line: vec4<u32>) -> f32 {
    let upper = stretched(base + line.x * u32(stride), column);
    let lower = stretched(base + line.y * u32(stride), column);
    let mixed = ((upper * i32(line.z)) >> 16u) + ((lower * i32(line.w)) >> 16u);
    return f32((mixed + 2) >> 2u);
}

fn color(index: u32, x: u32, y: u32) -> vec3<f32> {
    let start = batch.pictures[index].taps;
    let base = batch.pictures[index].base;
    let stride = batch.pictures[index].stride;
    let column = taps[start.x + x];
    let line = taps[start.y + y];
    let first = channel(base.x, stride.x, column, line);
    if (stride.w == 1) {
        return vec3<f32>(first);
    }
    if (stride.w > 0) {
        return vec3<f32>(
            first,
            channel(base.y, stride.y, column, line),
            channel(base.z, stride.z, column, line),
        );
    }
    let half_column = taps[start.z + x];
    let half_line = taps[start.w + y];
    let cb = channel(base.y, stride.y, half_column, half_line) - 128.0;
    let cr = channel(base.z, stride.z, half_column, half_line) - 128.0;
    let luma = (first + batch.pictures[index].luma.x) * batch.pictures[index].luma.y;
    let chroma = batch.pictures[index].chroma;
    let rgb = vec3<f32>(luma + chroma.x * cr, luma + chroma.y * cb + chroma.z * cr, luma + chroma.w * cb);
    return clamp(rgb, vec3<f32>(0.0), vec3<f32>(255.0));
}

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= batch.size.x || id.y >= batch.size.y) {
        return;
    }
    let place = batch.pictures[id.z].place;
    // Left of it or above, the difference wraps around and is larger than any side.
    let x = id.x - place.x;
    let y = id.y - place.y;
    var value = batch.pad.xyz;
    if (x < place.z && y < place.w) {
        value = color(id.z, x, y) * batch.mul.xyz + batch.add.xyz;
    }
    store(id, value);
}
