// Which rows of a network's outputs have a score that is high enough: one invocation for each row of a group, one layer of
// workgroups for each entry of the batch. What follows these lines is written for the group.

struct Limits {
    threshold: f32,
    // Where a score is a logistic function or a share of a softmax: no number below this gives one that is high enough.
    logit: f32,
    // −∞, which WGSL can't write.
    lowest: f32,
    // How many records there is room for, for each entry.
    capacity: u32,
}

@group(0) @binding(0) var<uniform> limits: Limits;
// How many rows each entry has, those for which there is no room among them.
@group(0) @binding(1) var<storage, read_write> counts: array<atomic<u32>>;
// Of each row its group, its place in it, its class, the bits of its score, the bits of the numbers that come with it.
@group(0) @binding(2) var<storage, read_write> records: array<u32>;

// No column.
const NONE = 0xffffffffu;

// By its bits: compilers may take it that no number is NaN, and leave comparisons out.
fn is_nan(bits: u32) -> bool {
    return (bits & 0x7fffffffu) > 0x7f800000u;
}

fn is_finite(bits: u32) -> bool {
    return (bits & 0x7fffffffu) < 0x7f800000u;
}
