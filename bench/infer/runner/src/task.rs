use std::path::PathBuf;

use clap::Parser;

/// What a runtime is to do, as its command line says it.
#[derive(Clone, Debug, PartialEq, Parser)]
#[command(about = "Runs one task of the comparison on one runtime; started by nv-bench-infer")]
pub struct Task {
    /// The ONNX file
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// Shape of one entry of the input, without the batch: 3x416x416
    #[arg(long, value_name = "DIMS", value_parser = shape)]
    pub entry: Entry,
    /// Entries in a batch
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_1)]
    pub batch: usize,
    /// What the input's values lie between
    #[arg(long, num_args = 2, value_names = ["FROM", "TO"], default_values_t = [0.0, 1.0], allow_negative_numbers = true)]
    pub range: Vec<f32>,
    /// Threads that a run may use
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_1)]
    pub threads: usize,
    /// What to run on
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    pub device: Device,
    /// How long to measure; without it, only the start is
    #[arg(long, value_name = "S")]
    pub seconds: Option<f64>,
    /// Where to put the outputs
    #[arg(long, value_name = "FILE")]
    pub outputs: Option<PathBuf>,
}

/// A shape in a type of its own, so that the command line takes it as one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry(pub Vec<usize>);

/// What a runtime runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Device {
    /// The CPU.
    Cpu,
    /// A hardware GPU.
    Gpu,
    /// A GPU that is emulated in software.
    Software,
}

impl Task {
    /// The input of one entry: values that follow no pattern, the same on every runtime, different from entry to entry.
    pub fn entry_values(&self, entry: usize) -> Vec<f32> {
        let count = self.entry.0.iter().product();
        let mut state = entry as u64;
        let [from, to] = [self.range[0], self.range[1]];
        let next = |_| {
            // SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", fig. 1).
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let unit = ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32;
            from + unit * (to - from)
        };
        (0..count).map(next).collect()
    }

    /// The calls that compute the batch, each as the entries of its input: all at once where the file leaves the batch open,
    /// else one entry after the other, as a user of a runtime has to.
    pub fn calls(&self, open_batch: bool) -> Vec<Call> {
        let group = if open_batch { self.batch } else { 1 };
        let starts = (0..self.batch).step_by(group);
        let call = |start| Call {
            shape: [&[group], self.entry.0.as_slice()].concat(),
            values: (start..start + group).flat_map(|entry| self.entry_values(entry)).collect(),
        };
        starts.map(call).collect()
    }
}

/// The input of one call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Its shape, the batch outermost.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub values: Vec<f32>,
}

fn shape(text: &str) -> Result<Entry, String> {
    let dims: Result<Vec<usize>, _> = text.split('x').map(str::parse).collect();
    dims.map(Entry).map_err(|_| "not of the form 3x416x416".to_owned())
}

fn at_least_1(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "not a number from 1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(batch: &str) -> Task {
        let line = ["x", "--model", "m", "--entry", "3x4x5", "--range", "-1", "1", "--batch", batch];
        Task::try_parse_from(line).expect("a valid command line")
    }

    #[test]
    fn a_batch_is_one_call_where_the_file_leaves_it_open() {
        let (at_once, one_by_one) = (task("2").calls(true), task("2").calls(false));
        assert_eq!(at_once.len(), 1);
        assert_eq!(at_once[0].shape, [2, 3, 4, 5]);
        assert_eq!(one_by_one.len(), 2);
        assert_eq!(one_by_one[1].shape, [1, 3, 4, 5]);
        let joined: Vec<f32> = one_by_one.iter().flat_map(|call| call.values.clone()).collect();
        assert_eq!(at_once[0].values, joined);
        assert_ne!(one_by_one[0].values, one_by_one[1].values);
    }

    #[test]
    fn values_fill_their_range() {
        let values = Task { entry: Entry(vec![1000]), ..task("1") }.entry_values(0);
        assert!(values.iter().all(|v| (-1.0..=1.0).contains(v)));
        assert!(values.iter().any(|v| *v < -0.9) && values.iter().any(|v| *v > 0.9));
    }
}
