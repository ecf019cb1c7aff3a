//! The prior boxes of SSD detectors (Liu et al. 2016, "SSD: Single Shot MultiBox Detector", section 2.2): boxes of a few
//! shapes at each cell of several grids, which the network moves and stretches.

use nv_plugin_sdk::Size;
use nv_plugin_sdk::serde::Deserialize;

/// The prior boxes of an SSD: a set that somebody published, or one's own.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(
    crate = "nv_plugin_sdk::serde",
    untagged,
    expecting = "expected \"ssd300_voc\", \"ssd300_coco\", \"mobilenet_ssd\", \"mobilenet_ssd_pytorch\", \
                 \"mobilenet_ssd_tensorflow\", or a table with the key levels"
)]
pub enum Priors {
    /// A published set.
    Published(PublishedPriors),
    /// One's own.
    Own(OwnPriors),
}

/// The sets of prior boxes that are known by name, all for pictures of 300×300.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(crate = "nv_plugin_sdk::serde", rename_all = "snake_case")]
pub enum PublishedPriors {
    /// 8,732 boxes of the paper for PASCAL VOC, as in `amdegroot/ssd.pytorch`, `data/config.py`.
    Ssd300Voc,
    /// 8,732 smaller boxes of the paper for COCO, from the same place.
    Ssd300Coco,
    /// 1,917 boxes of `chuanqi305/MobileNet-SSD`, as in its `MobileNetSSD_deploy.prototxt`.
    MobilenetSsd,
    /// 3,000 boxes of `qfgaohao/pytorch-ssd`, as in its `vision/ssd/config/mobilenetv1_ssd_config.py`.
    MobilenetSsdPytorch,
    /// 1,917 boxes of TensorFlow's object detection API: `create_ssd_anchors` in `multiple_grid_anchor_generator.py`, with
    /// the aspect ratios of `ssd_mobilenet_v1_coco.config`.
    MobilenetSsdTensorflow,
}

/// Prior boxes by grid.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(crate = "nv_plugin_sdk::serde", deny_unknown_fields)]
pub struct OwnPriors {
    /// The grids, in the order of the network's boxes.
    pub levels: Vec<PriorLevel>,
    /// What the network's numbers for centres and for sizes are multiplied by. Default 0.1 and 0.2.
    #[serde(default = "usual_variances")]
    pub variances: [f32; 2],
    /// Whether centres and sizes are cut to those of the picture. Default `false`.
    #[serde(default)]
    pub clip: bool,
}

/// One grid of prior boxes. At each cell, row by row, there is a square of `min_size`, one of `√(min_size · max_size)` if
/// that is given, and for each aspect ratio a box of it and a box of its reciprocal.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(crate = "nv_plugin_sdk::serde", deny_unknown_fields)]
pub struct PriorLevel {
    /// Columns and rows.
    pub grid: [u32; 2],
    /// Pixels of the input from one cell to the next. Default: the input's sides divided by the grid's.
    #[serde(default)]
    pub step: Option<f32>,
    /// Side of the first square, in pixels of the input.
    pub min_size: f32,
    /// See [`PriorLevel`]; in pixels of the input.
    #[serde(default)]
    pub max_size: Option<f32>,
    /// Width by height.
    #[serde(default)]
    pub aspect_ratios: Vec<f32>,
}

fn usual_variances() -> [f32; 2] {
    [0.1, 0.2]
}

/// The side of the pictures that published sets are for.
const PUBLISHED_SIDE: f32 = 300.0;

impl PublishedPriors {
    /// Every set.
    pub(crate) const ALL: [Self; 5] = [
        Self::Ssd300Voc,
        Self::Ssd300Coco,
        Self::MobilenetSsd,
        Self::MobilenetSsdPytorch,
        Self::MobilenetSsdTensorflow,
    ];

    /// Its name in config.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ssd300Voc => "ssd300_voc",
            Self::Ssd300Coco => "ssd300_coco",
            Self::MobilenetSsd => "mobilenet_ssd",
            Self::MobilenetSsdPytorch => "mobilenet_ssd_pytorch",
            Self::MobilenetSsdTensorflow => "mobilenet_ssd_tensorflow",
        }
    }

    /// How many boxes it has.
    pub(crate) fn count(self) -> usize {
        match self {
            Self::Ssd300Voc | Self::Ssd300Coco => 8732,
            Self::MobilenetSsd | Self::MobilenetSsdTensorflow => 1917,
            Self::MobilenetSsdPytorch => 3000,
        }
    }

    fn boxes(self) -> Vec<PriorBox> {
        if self == Self::MobilenetSsdTensorflow {
            return tensorflow_boxes();
        }
        // Grid, step, least and greatest size, whether there are boxes of aspect 3. No step: by the grid.
        const VOC: [(u32, f32, f32, f32, bool); 6] = [
            (38, 8.0, 30.0, 60.0, false),
            (19, 16.0, 60.0, 111.0, true),
            (10, 32.0, 111.0, 162.0, true),
            (5, 64.0, 162.0, 213.0, true),
            (3, 100.0, 213.0, 264.0, false),
            (1, 300.0, 264.0, 315.0, false),
        ];
        const MOBILENET: [(u32, f32, f32, f32, bool); 6] = [
            (19, 16.0, 60.0, 105.0, true),
            (10, 32.0, 105.0, 150.0, true),
            (5, 64.0, 150.0, 195.0, true),
            (3, 100.0, 195.0, 240.0, true),
            (2, 150.0, 240.0, 285.0, true),
            (1, 300.0, 285.0, 330.0, true),
        ];
        const COCO_SIZES: [f32; 7] = [21.0, 45.0, 99.0, 153.0, 207.0, 261.0, 315.0];
        let table = if matches!(self, Self::Ssd300Voc | Self::Ssd300Coco) { VOC } else { MOBILENET };
        let level = |(i, (side, step, min, max, wide)): (usize, (u32, f32, f32, f32, bool))| {
            let mut level = PriorLevel {
                grid: [side, side],
                step: Some(step),
                min_size: min,
                max_size: Some(max),
                aspect_ratios: if wide { vec![2.0, 3.0] } else { vec![2.0] },
            };
            match self {
                Self::Ssd300Coco => (level.min_size, level.max_size) = (COCO_SIZES[i], Some(COCO_SIZES[i + 1])),
                // Caffe's layer lays cells by the grid. Its first grid has three boxes, and the last ends at the picture.
                Self::MobilenetSsd => {
                    level.step = None;
                    if i == 0 {
                        (level.max_size, level.aspect_ratios) = (None, vec![2.0]);
                    } else if i + 1 == MOBILENET.len() {
                        level.max_size = Some(PUBLISHED_SIDE);
                    }
                }
                _ => {}
            }
            level
        };
        let priors = OwnPriors {
            levels: table.into_iter().enumerate().map(level).collect(),
            variances: usual_variances(),
            clip: self != Self::MobilenetSsd,
        };
        priors.boxes([PUBLISHED_SIDE; 2])
    }
}

/// The most boxes of a set: what a file says of itself must not take more memory than any detector has use for.
const MOST_BOXES: usize = 1 << 20;

impl Priors {
    /// Whether the numbers are ones that can be meant.
    ///
    /// # Errors
    /// A sentence that names the key and what it may be.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self::Own(own) = self else { return Ok(()) };
        let positive = |value: f32| value.is_finite() && value > 0.0;
        for level in &own.levels {
            let sizes = [level.step, Some(level.min_size), level.max_size].into_iter().flatten();
            if !sizes.chain(level.aspect_ratios.iter().copied()).all(positive) {
                return Err("priors: step, min_size, max_size and aspect_ratios must be more than 0".into());
            }
        }
        if !own.variances.into_iter().all(positive) {
            return Err("priors: variances must be more than 0".into());
        }
        if !(1..=MOST_BOXES).contains(&self.count()) {
            return Err(format!("priors are {} boxes, and must be from 1 to {MOST_BOXES}", self.count()));
        }
        Ok(())
    }

    /// How many boxes there are.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Published(set) => set.count(),
            Self::Own(own) => {
                let of_level = |level: &PriorLevel| level.cells().saturating_mul(level.shapes().count());
                own.levels.iter().map(of_level).fold(0, usize::saturating_add)
            }
        }
    }

    /// The boxes for an input of this size, in the order of the network's.
    pub(crate) fn boxes(&self, input: Size) -> Vec<PriorBox> {
        match self {
            Self::Published(set) => set.boxes(),
            Self::Own(own) => own.boxes([input.width as f32, input.height as f32]),
        }
    }

    /// What the network's numbers for centres and for sizes are multiplied by.
    pub(crate) fn variances(&self) -> [f32; 2] {
        match self {
            Self::Published(_) => usual_variances(),
            Self::Own(own) => own.variances,
        }
    }
}

impl OwnPriors {
    fn boxes(&self, input: [f32; 2]) -> Vec<PriorBox> {
        let mut boxes = Vec::new();
        for level in &self.levels {
            let shapes = level.shapes().map(|[w, h]| [w / input[0], h / input[1]]);
            let step = [0, 1].map(|i| level.step.map_or(1.0 / level.grid[i] as f32, |step| step / input[i]));
            lay(level.grid, step, &shapes.collect::<Vec<_>>(), &mut boxes);
        }
        if self.clip {
            for value in boxes.iter_mut().flat_map(|b: &mut PriorBox| b.center.iter_mut().chain(&mut b.size)) {
                *value = value.clamp(0.0, 1.0);
            }
        }
        boxes
    }
}

impl PriorLevel {
    fn cells(&self) -> usize {
        (self.grid[0] as usize).saturating_mul(self.grid[1] as usize)
    }

    /// Width and height of each box at a cell.
    fn shapes(&self) -> impl Iterator<Item = [f32; 2]> {
        let min = self.min_size;
        let between = self.max_size.map(|max| [(min * max).sqrt(); 2]);
        let stretched = self.aspect_ratios.iter().flat_map(move |ratio| {
            let root = ratio.sqrt();
            [[min * root, min / root], [min / root, min * root]]
        });
        std::iter::once([min; 2]).chain(between).chain(stretched)
    }
}

/// A prior box, relative to the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PriorBox {
    /// x and y.
    pub(crate) center: [f32; 2],
    /// Width and height.
    pub(crate) size: [f32; 2],
}

/// Adds boxes of `shapes` at each cell of a grid, row by row.
fn lay([columns, rows]: [u32; 2], step: [f32; 2], shapes: &[[f32; 2]], boxes: &mut Vec<PriorBox>) {
    for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
        let center = [(column as f32 + 0.5) * step[0], (row as f32 + 0.5) * step[1]];
        boxes.extend(shapes.iter().map(|&size| PriorBox { center, size }));
    }
}

fn tensorflow_boxes() -> Vec<PriorBox> {
    const GRIDS: [u32; 6] = [19, 10, 5, 3, 2, 1];
    let scale = |i: usize| if i < GRIDS.len() { 0.2 + 0.15 * i as f32 } else { 1.0 };
    let shape = |scale: f32, ratio: f32| [scale * ratio.sqrt(), scale / ratio.sqrt()];
    let mut boxes = Vec::new();
    for (i, side) in GRIDS.into_iter().enumerate() {
        let shapes = if i == 0 {
            vec![shape(0.1, 1.0), shape(scale(0), 2.0), shape(scale(0), 0.5)]
        } else {
            let mut shapes = [1.0, 2.0, 0.5, 3.0, 0.3333].map(|ratio| shape(scale(i), ratio)).to_vec();
            shapes.push(shape((scale(i) * scale(i + 1)).sqrt(), 1.0));
            shapes
        };
        lay([side, side], [1.0 / side as f32; 2], &shapes, &mut boxes);
    }
    boxes
}

/// The names of the published sets.
pub(crate) fn names() -> Vec<&'static str> {
    PublishedPriors::ALL.map(PublishedPriors::name).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUT: Size = Size::new(300, 300);

    #[test]
    fn published_sets_are_as_their_authors_code_has_them() {
        fn check(set: PublishedPriors, index: usize, center: [f32; 2], size: [f32; 2]) {
            let boxes = Priors::Published(set).boxes(INPUT);
            assert_eq!((boxes.len(), Priors::Published(set).count()), (set.count(), set.count()));
            let found = boxes[index];
            for (a, b) in found.center.iter().chain(&found.size).zip(center.iter().chain(&size)) {
                assert!((a - b).abs() < 1e-5, "{set:?} {index}: {found:?}");
            }
        }
        use PublishedPriors::*;
        let root = 2f32.sqrt();
        // The first cell: least square, square between, 2:1, 1:2.
        check(Ssd300Voc, 0, [4.0 / 300.0; 2], [0.1; 2]);
        check(Ssd300Voc, 1, [4.0 / 300.0; 2], [0.1 * root; 2]);
        check(Ssd300Voc, 2, [4.0 / 300.0; 2], [0.1 * root, 0.1 / root]);
        check(Ssd300Voc, 3, [4.0 / 300.0; 2], [0.1 / root, 0.1 * root]);
        // The second cell of the second grid, of six boxes a cell; the last: cut at the picture.
        check(Ssd300Voc, 5776 + 6, [24.0 / 300.0, 8.0 / 300.0], [0.2; 2]);
        check(Ssd300Voc, 8731, [0.5; 2], [0.88 / root, 1.0]);
        check(Ssd300Coco, 0, [4.0 / 300.0; 2], [0.07; 2]);
        check(Ssd300Coco, 5776 + 1, [8.0 / 300.0; 2], [(45f32 * 99.0).sqrt() / 300.0; 2]);
        check(MobilenetSsd, 0, [0.5 / 19.0; 2], [0.2; 2]);
        check(MobilenetSsd, 1, [0.5 / 19.0; 2], [0.2 * root, 0.2 / root]);
        check(MobilenetSsd, 1083 + 1, [0.05; 2], [(105f32 * 150.0).sqrt() / 300.0; 2]);
        check(MobilenetSsd, 1912, [0.5; 2], [(285f32 * 300.0).sqrt() / 300.0; 2]);
        check(MobilenetSsdPytorch, 0, [8.0 / 300.0; 2], [0.2; 2]);
        check(MobilenetSsdPytorch, 1, [8.0 / 300.0; 2], [(60f32 * 105.0).sqrt() / 300.0; 2]);
        check(MobilenetSsdPytorch, 6 * 361, [16.0 / 300.0; 2], [0.35; 2]);
        check(MobilenetSsdTensorflow, 0, [0.5 / 19.0; 2], [0.1; 2]);
        check(MobilenetSsdTensorflow, 1, [0.5 / 19.0; 2], [0.2 * root, 0.2 / root]);
        check(MobilenetSsdTensorflow, 1083, [0.05; 2], [0.35; 2]);
        check(MobilenetSsdTensorflow, 1083 + 5, [0.05; 2], [(0.35f32 * 0.5).sqrt(); 2]);
        check(MobilenetSsdTensorflow, 1916, [0.5; 2], [0.95f32.sqrt(); 2]);
    }

    #[test]
    fn own_priors_are_laid_by_their_grids() {
        let own: OwnPriors =
            toml::from_str("levels = [{ grid = [4, 2], min_size = 10, aspect_ratios = [4] }, { grid = [1, 1], min_size = 80, max_size = 20 }]")
                .unwrap();
        assert_eq!((own.variances, own.clip), ([0.1, 0.2], false));
        let priors = Priors::Own(own);
        let boxes = priors.boxes(Size::new(40, 20));
        assert_eq!((boxes.len(), priors.count()), (26, 26));
        assert_eq!(boxes[3 * 5 + 1], PriorBox { center: [0.375, 0.75], size: [0.5, 0.25] });
        assert_eq!(boxes[24], PriorBox { center: [0.5, 0.5], size: [2.0, 4.0] });
        assert_eq!(boxes[25], PriorBox { center: [0.5, 0.5], size: [1.0, 2.0] });
    }

    #[test]
    fn priors_that_make_no_sense_are_refused() {
        fn check(level: &str, expected: &str) {
            let own: OwnPriors =
                toml::from_str(&format!("levels = [{{ grid = [4, 2], min_size = 10 }}, {{ {level} }}]")).unwrap();
            assert_eq!(Priors::Own(own).check().err().unwrap_or_default(), expected);
        }
        check("grid = [3, 3], min_size = 2.5", "");
        let sizes = "priors: step, min_size, max_size and aspect_ratios must be more than 0";
        check("grid = [3, 3], min_size = 0", sizes);
        check("grid = [3, 3], min_size = 1, aspect_ratios = [-1]", sizes);
        check("grid = [3, 3], min_size = 1, step = nan", sizes);
        let boxes = "priors are 16777224 boxes, and must be from 1 to 1048576";
        check("grid = [4096, 4096], min_size = 1", boxes);
        let own: OwnPriors = toml::from_str("levels = []").unwrap();
        assert_eq!(Priors::Own(own).check(), Err("priors are 0 boxes, and must be from 1 to 1048576".into()));
    }

    #[test]
    fn config_names_a_set_or_gives_levels() {
        #[derive(Deserialize)]
        #[serde(crate = "nv_plugin_sdk::serde")]
        struct Config {
            priors: Priors,
        }
        let parse = |text: &str| toml::from_str::<Config>(text).map(|c| c.priors).map_err(|e| e.message().to_owned());
        for set in PublishedPriors::ALL {
            assert_eq!(parse(&format!("priors = '{}'", set.name())), Ok(Priors::Published(set)));
        }
        for wrong in ["priors = 'ssd'", "priors = { levels = [{ grid = [1, 1] }] }", "priors = 3"] {
            let error = parse(wrong).unwrap_err();
            assert!(names().iter().all(|name| error.contains(name)) && error.contains("levels"), "{error}");
        }
    }
}
