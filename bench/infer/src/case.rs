//! What the runtimes compute: whole models from the assets, and single convolutions built here.

use std::fs;
use std::path::{Path, PathBuf};

use nv_infer::Dim;
use nv_infer::testing::OnnxBuilder;

/// A model with one input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Shape of one entry of the input.
    pub(crate) entry: [usize; 3],
    /// What the input's values lie between.
    pub(crate) range: [f32; 2],
    pub(crate) source: Source,
}

/// Where the file comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Source {
    /// A file under `models` in the assets.
    Asset(&'static str),
    /// One convolution with a bias, padded so that a stride of 1 keeps the size.
    Convolution(Convolution),
}

/// A convolution of `inputs` channels to `outputs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Convolution {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    /// Whether each channel has a kernel of its own.
    pub(crate) depthwise: bool,
}

/// Every case, in the order of the table.
pub(crate) fn all() -> Vec<Case> {
    let model = |name, file, entry, range| Case { name, entry, range, source: Source::Asset(file) };
    let plain = |inputs, outputs, kernel, stride| Convolution { inputs, outputs, kernel, stride, depthwise: false };
    let depthwise =
        |channels, kernel| Convolution { inputs: channels, outputs: channels, kernel, stride: 1, depthwise: true };
    let single = |name, side, convolution: Convolution| Case {
        name,
        entry: [convolution.inputs, side, side],
        range: [-1.0, 1.0],
        source: Source::Convolution(convolution),
    };
    vec![
        model("yolox", "yolox_nano_coco_416.onnx", [3, 416, 416], [0.0, 255.0]),
        model("fastestdet", "fastestdet_coco_352.onnx", [3, 352, 352], [0.0, 1.0]),
        model("ultraface", "ultraface_rfb_320.onnx", [3, 240, 320], [-1.0, 1.0]),
        model("yunet", "yunet_s_dynamic.onnx", [3, 320, 320], [0.0, 255.0]),
        model("reid", "person-reidentification-retail-0248.onnx", [256, 128, 3], [0.0, 255.0]),
        single("conv-1x1", 52, plain(64, 64, 1, 1)),
        single("conv-3x3", 52, plain(64, 64, 3, 1)),
        single("conv-dw3x3", 52, depthwise(64, 3)),
        single("conv-dw5x5", 26, depthwise(128, 5)),
        single("conv-1x1-deep", 13, plain(256, 256, 1, 1)),
        single("conv-3x3-s2", 52, plain(64, 128, 3, 2)),
        single("conv-stem", 416, plain(3, 16, 3, 2)),
    ]
}

impl Case {
    /// What it is, for people.
    pub(crate) fn title(&self) -> String {
        let [a, b, c] = self.entry;
        match self.source {
            Source::Asset(file) => format!("{file}, input {a}×{b}×{c}"),
            Source::Convolution(Convolution { outputs, kernel, stride, depthwise, .. }) => {
                let kind = if depthwise { "depthwise" } else { "convolution" };
                format!("{kind} {kernel}×{kernel}, stride {stride}, {a}→{outputs} channels at {b}×{c}")
            }
        }
    }

    /// Whether it is a single operator.
    pub(crate) fn is_single(&self) -> bool {
        matches!(self.source, Source::Convolution(_))
    }

    /// Puts the file in `work` if it is to be built; returns where the file is. `fixed_batch`: its batch is 1, for runtimes
    /// that take no other; else a built file leaves it open.
    pub(crate) fn file(&self, assets: &Path, work: &Path, fixed_batch: bool) -> Result<PathBuf, String> {
        match self.source {
            Source::Asset(file) => {
                let path = assets.join("models").join(file);
                let missing = || format!("{} is not there; name the assets' folder in NV_ASSETS", path.display());
                path.is_file().then_some(()).ok_or_else(missing)?;
                Ok(path)
            }
            Source::Convolution(convolution) => {
                let suffix = if fixed_batch { "-fixed" } else { "" };
                let path = work.join(format!("{}{suffix}.onnx", self.name));
                let batch = if fixed_batch { Dim::Fixed(1) } else { "n".into() };
                let written = fs::create_dir_all(work)
                    .and_then(|()| fs::write(&path, convolution.onnx(batch, self.entry[1], self.entry[2])));
                written.map(|()| path.clone()).map_err(|e| format!("cannot write {}: {e}", path.display()))
            }
        }
    }
}

impl Convolution {
    /// An ONNX file with this convolution alone.
    fn onnx(self, batch: Dim, height: usize, width: usize) -> Vec<u8> {
        let Self { inputs, outputs, kernel, stride, depthwise } = self;
        let (per_group, groups) = if depthwise { (1, inputs) } else { (inputs, 1) };
        let taps = per_group * kernel * kernel;
        // Outputs of about the size of the inputs, as in a trained net.
        let scale = 1.0 / (taps as f32).sqrt();
        let weights: Vec<f32> = (0..outputs * taps).map(|i| scale * (i as f32 * 0.7).sin()).collect();
        let bias: Vec<f32> = (0..outputs).map(|i| 0.1 * (i as f32).cos()).collect();
        let pad = kernel / 2;
        let size = |n: usize| (n + 2 * pad - kernel) / stride + 1;
        let wide = |values: &[usize]| values.iter().map(|&n| n as i64).collect::<Vec<_>>();
        OnnxBuilder::new()
            .input("x", &[batch.clone(), inputs.into(), height.into(), width.into()])
            .initializer("w", &wide(&[outputs, per_group, kernel, kernel]), &weights)
            .initializer("b", &wide(&[outputs]), &bias)
            .node("Conv", &["x", "w", "b"], &["y"])
            .attribute_list("kernel_shape", &wide(&[kernel; 2]))
            .attribute_list("strides", &wide(&[stride; 2]))
            .attribute_list("pads", &wide(&[pad; 4]))
            .attribute_list("dilations", &[1, 1])
            .attribute("group", groups as i64)
            .output("y", &[batch, outputs.into(), size(height).into(), size(width).into()])
            .build()
    }
}

#[cfg(test)]
mod tests {
    use nv_core::Tensor;
    use nv_infer::{Model, Session, SessionOptions};

    use super::*;

    #[test]
    fn built_convolutions_run_and_keep_their_declared_shape() {
        for case in all() {
            let Source::Convolution(convolution) = case.source else { continue };
            let [channels, height, width] = case.entry;
            let file = convolution.onnx("n".into(), height, width);
            let model = Model::from_bytes(case.name, file).expect("a sound file");
            let session = Session::new(&model, &SessionOptions::default()).expect("a known operator");
            let output = session.run(&[Tensor::zeros([1, channels, height, width])]).expect("it runs").remove(0);
            let declared = session.outputs()[0].shape.as_ref().expect("it is declared");
            let declared: Vec<_> = declared.iter().skip(1).map(|dim| dim.fixed()).collect();
            let found: Vec<_> = output.shape()[1..].iter().copied().map(Some).collect();
            assert_eq!(declared, found, "{}", case.name);
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = all().iter().map(|case| case.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().len());
    }
}
