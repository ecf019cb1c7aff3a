//! SSD (Liu et al. 2016, "SSD: Single Shot MultiBox Detector"): for each prior box how it is to be moved and stretched, and a
//! value for each class, the first being the background. Which priors they are can't be seen: published sets are told by the
//! numbers of boxes and classes, others must be given. Sources of sets and pre-processing: [`PublishedPriors`]. Exports with
//! boxes decoded in the graph, as `qfgaohao/pytorch-ssd` writes them, and with scores made in the graph are told by what a
//! blank picture gives.

use nv_infer::{RowGroup, RowOutput, ScoreActivation, ScoreFactor, ScoredRows, TensorInfo};
use nv_plugin_sdk::{BBox, Point, Size, Tensor, tracing};

use super::rows::{by_rows, columns, scores};
use super::{Candidates, Family, Head, Known, first_entry, last_dims, published};
use crate::activation::{Activation, are_scores, are_shares};
use crate::labels::VOC;
use crate::priors::{self, PriorBox, Priors, PublishedPriors};
use crate::settings::{ColorOrder, ModelSettings, PerChannel, ResizeMode};

pub(super) static SSD: Family = Family {
    name: "ssd",
    outputs: "boxes×4 and boxes×classes, the background among them, a box for each prior",
    published: |known| pre_processing(known),
    opens_input: false,
    stride: 1,
    bind,
    lacks: Some(lacks),
};

/// The pre-processing of each set's authors.
fn pre_processing(known: &Known<'_>) -> ModelSettings {
    let set = match Shape::read(known.outputs).and_then(|shape| shape.priors(known)) {
        Some(Priors::Published(set)) => Some(set),
        _ => None,
    };
    let (color_order, scale, mean, std, nms_iou) = match set {
        // The paper's own takes the means of ImageNet away; this is its port, which turns colours round after that.
        None | Some(PublishedPriors::Ssd300Voc | PublishedPriors::Ssd300Coco) => {
            (ColorOrder::Rgb, 1.0, PerChannel::Three([123.0, 117.0, 104.0]), 1.0, 0.45)
        }
        Some(PublishedPriors::MobilenetSsd) => (ColorOrder::Bgr, 1.0, PerChannel::One(127.5), 127.5, 0.45),
        Some(PublishedPriors::MobilenetSsdPytorch) => (ColorOrder::Rgb, 1.0, PerChannel::One(127.0), 128.0, 0.45),
        Some(PublishedPriors::MobilenetSsdTensorflow) => (ColorOrder::Rgb, 2.0 / 255.0, PerChannel::One(1.0), 1.0, 0.6),
    };
    ModelSettings {
        color_order: Some(color_order),
        scale: Some(scale),
        mean: Some(mean),
        std: Some(PerChannel::One(std)),
        nms_iou: Some(nms_iou),
        ..published(ResizeMode::Stretch, &VOC)
    }
}

/// What the two outputs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    /// Which output is which.
    boxes: usize,
    scores: usize,
    count: usize,
    /// With the background.
    classes: usize,
    /// Whether both have one dimension behind the batch.
    flat: bool,
}

impl Shape {
    fn read(outputs: &[TensorInfo]) -> Option<Self> {
        let [first, second] = outputs else { return None };
        let named = |texts: [&str; 2]| outputs.iter().position(|o| texts.iter().any(|t| o.name.contains(t)));
        let by_name = named(["loc", "box"]).zip(named(["conf", "score"])).filter(|(boxes, scores)| boxes != scores);
        let rank = first.shape.as_ref()?.len();
        if rank == 2 {
            // Rows end somewhere in it; the names must say whose.
            let (boxes, scores) = by_name?;
            let len = |i: usize| last_dims::<1>(&outputs[i], 2).and_then(|[len]| len);
            let count = len(boxes)? / 4;
            let fits = count > 0 && len(boxes)? == 4 * count && len(scores)?.is_multiple_of(count);
            let classes = len(scores)?.checked_div(count)?;
            return (fits && classes >= 2).then_some(Self { boxes, scores, count, classes, flat: true });
        }
        let dims = [last_dims::<2>(first, 3)?, last_dims::<2>(second, 3)?];
        let width = |i: usize| dims[i][1];
        let (boxes, scores) = match (width(0)?, width(1)?) {
            (4, 4) => by_name.unwrap_or((0, 1)),
            (4, _) => (0, 1),
            (_, 4) => (1, 0),
            _ => return None,
        };
        let count = dims[0][0]?;
        let classes = width(scores)?;
        (dims[1][0] == Some(count) && classes >= 2).then_some(Self { boxes, scores, count, classes, flat: false })
    }

    /// The priors that somebody gave, or the published ones that have these numbers; `None` where they do not fit.
    fn priors(&self, known: &Known<'_>) -> Option<Priors> {
        if let Some(given) = known.priors {
            return (given.count() == self.count).then(|| given.clone());
        }
        let set = match (self.count, self.classes) {
            (3000, _) => PublishedPriors::MobilenetSsdPytorch,
            (1917, 21) => PublishedPriors::MobilenetSsd,
            (1917, 91) => PublishedPriors::MobilenetSsdTensorflow,
            (8732, 21) => PublishedPriors::Ssd300Voc,
            (8732, 81 | 201) => PublishedPriors::Ssd300Coco,
            _ => return None,
        };
        known.input.is_none_or(|input| input == Size::new(300, 300)).then_some(Priors::Published(set))
    }

    /// An output of so many values for each box.
    fn output(&self, output: usize, width: usize) -> RowOutput {
        let rows = by_rows(output, self.count, width);
        if self.flat { RowOutput { shape: vec![self.count * width], ..rows } } else { rows }
    }
}

fn bind(known: &Known<'_>) -> Option<Box<dyn Head>> {
    let shape = Shape::read(known.outputs)?;
    let priors = shape.priors(known)?;
    Some(Box::new(Ssd {
        boxes: known.input.map(|input| priors.boxes(input)).unwrap_or_default(),
        variances: priors.variances(),
        y_first: priors == Priors::Published(PublishedPriors::MobilenetSsdTensorflow),
        shape,
        decoded: false,
        activation: known.activation,
    }))
}

fn lacks(known: &Known<'_>) -> Option<String> {
    let shape = Shape::read(known.outputs)?;
    let Shape { count, classes, .. } = shape;
    if let Some(given) = known.priors.filter(|_| shape.priors(known).is_none()) {
        return Some(format!("the key priors gives {} boxes, and the model has {count}", given.count()));
    }
    let fitting: Vec<_> = PublishedPriors::ALL.iter().filter(|p| p.count() == count).map(|p| p.name()).collect();
    let sets = match fitting.as_slice() {
        [] => format!("none of the published sets ({}) has as many: give them by level", priors::names().join(", ")),
        sets => format!("{} has as many: say whether it is that, or give them by level", sets.join(" and ")),
    };
    Some(format!(
        "its outputs are those of an SSD with {count} boxes and {classes} classes, of which the priors can't be told from the \
         numbers; {sets}, with the key priors"
    ))
}

struct Ssd {
    shape: Shape,
    boxes: Vec<PriorBox>,
    variances: [f32; 2],
    /// Whether y comes before x, and height before width.
    y_first: bool,
    /// Whether the graph gives corners of boxes, relative to the picture.
    decoded: bool,
    /// `None`: by what a blank picture gives.
    activation: Option<Activation>,
}

impl Ssd {
    /// The box that four numbers make of a prior, relative to the picture.
    fn decode_box(&self, prior: &PriorBox, numbers: &[f32]) -> BBox {
        let numbers = [numbers[0], numbers[1], numbers[2], numbers[3]];
        let [a, b, c, d] = if self.y_first { [numbers[1], numbers[0], numbers[3], numbers[2]] } else { numbers };
        if self.decoded {
            return BBox::new(a, b, c, d);
        }
        let [of_center, of_size] = self.variances;
        let [x, y] = [0, 1].map(|i| prior.center[i] + [a, b][i] * of_center * prior.size[i]);
        let [width, height] = [0, 1].map(|i| prior.size[i] * ([c, d][i] * of_size).exp());
        BBox::from_center(Point::new(x, y), width, height)
    }
}

impl Head for Ssd {
    fn classes(&self) -> Option<usize> {
        Some(self.shape.classes - 1)
    }

    fn check_blank(&mut self, outputs: &[Tensor], _: Size) -> Result<(), String> {
        if self.boxes.len() != self.shape.count {
            return Err("its input has no fixed size, which the priors are for".into());
        }
        let boxes = first_entry(outputs, self.shape.boxes);
        let values = || first_entry(outputs, self.shape.scores).chunks_exact(self.shape.classes);
        let activation = self.activation.unwrap_or_else(|| {
            if values().all(are_shares) || values().all(are_scores) {
                Activation::None
            } else if self.y_first {
                Activation::Sigmoid
            } else {
                Activation::Softmax
            }
        });
        self.activation = Some(activation);
        // A decoded box lies about its prior; numbers that move one, read as corners, seldom do.
        let about = |(prior, b): &(&PriorBox, &[f32])| {
            let [x, y] = prior.center;
            let within = |low: f32, value: f32, high: f32| low <= value && value <= high && low < high;
            within(b[0], x, b[2]) && within(b[1], y, b[3])
        };
        self.decoded = 2 * self.boxes.iter().zip(boxes.chunks_exact(4)).filter(about).count() > self.shape.count;
        if self.decoded {
            self.y_first = false;
        }
        tracing::info!(
            decoded = self.decoded,
            ?activation,
            "how boxes and class values are read, by config or by what a blank picture gives"
        );
        Ok(())
    }

    fn groups(&self, _: Size) -> Vec<RowGroup> {
        let Shape { boxes, scores: values, count, classes, .. } = self.shape;
        let activation = match self.activation.unwrap_or(Activation::Softmax) {
            Activation::None => ScoreActivation::None,
            Activation::Sigmoid => ScoreActivation::Sigmoid,
            Activation::Softmax => ScoreActivation::Softmax,
        };
        vec![RowGroup {
            rows: count,
            outputs: vec![self.shape.output(values, classes), self.shape.output(boxes, 4)],
            // Every class but the background.
            score: vec![ScoreFactor { activation, ..scores(0, 1..classes) }],
            values: vec![columns(1, 0..4)],
        }]
    }

    fn decode(&self, rows: &[ScoredRows], input: Size, found: &mut Candidates) {
        let (width, height) = (input.width as f32, input.height as f32);
        for (row, numbers) in rows.iter().flat_map(ScoredRows::iter) {
            let Some(prior) = self.boxes.get(row.index) else { continue };
            let b = self.decode_box(prior, numbers);
            found.push(row.class, row.score, BBox::new(b.x1 * width, b.y1 * height, b.x2 * width, b.y2 * height));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_box, decode_with, known, output};
    use super::*;
    use crate::activation::{sigmoid, softmax};

    const INPUT: Size = Size::new(300, 300);

    fn bound<'a>(known: &Known<'a>) -> Box<dyn Head> {
        bind(known).expect("it is of the family")
    }

    /// The numbers that move a prior to a box: the formula of the paper, section 2.2, turned round.
    fn encoded(prior: &PriorBox, edges: [f32; 4], y_first: bool) -> [f32; 4] {
        let [x1, y1, x2, y2] = edges.map(|e| e / 300.0);
        let [dx, dy] = [0, 1].map(|i| ([x1 + x2, y1 + y2][i] / 2.0 - prior.center[i]) / prior.size[i] / 0.1);
        let [dw, dh] = [0, 1].map(|i| ([x2 - x1, y2 - y1][i] / prior.size[i]).ln() / 0.2);
        if y_first { [dy, dx, dh, dw] } else { [dx, dy, dw, dh] }
    }

    #[test]
    fn known_boxes_come_back_from_each_published_set() {
        let edges = [30.0, 60.0, 120.0, 90.0];
        for (set, classes) in [
            (PublishedPriors::Ssd300Voc, 21),
            (PublishedPriors::Ssd300Coco, 81),
            (PublishedPriors::MobilenetSsd, 21),
            (PublishedPriors::MobilenetSsdPytorch, 5),
            (PublishedPriors::MobilenetSsdTensorflow, 91),
        ] {
            let priors = Priors::Published(set).boxes(INPUT);
            let count = priors.len();
            let tensorflow = set == PublishedPriors::MobilenetSsdTensorflow;
            for at in [7, count / 2, count - 2] {
                let (mut boxes, mut values) = (vec![0.0; count * 4], vec![-9.0; count * classes]);
                values.chunks_exact_mut(classes).for_each(|row| row[0] = 9.0);
                boxes[at * 4..][..4].copy_from_slice(&encoded(&priors[at], edges, tensorflow));
                let row = &mut values[at * classes..][..classes];
                (row[0], row[3]) = (0.0, 1.5);
                let outputs =
                    [Tensor::new([1, count, 4], boxes).unwrap(), Tensor::new([1, count, classes], values).unwrap()];
                let infos = [output("loc", outputs[0].shape()), output("conf", outputs[1].shape())];
                let mut head = bound(&known(&infos, Some(INPUT)));
                head.check_blank(&outputs, INPUT).unwrap();
                // TensorFlow's background has a score of its own, and each row has a class that the others do not.
                let found = decode_with(&*head, &outputs, INPUT, 0.5);
                assert_eq!(found.items.len(), 1, "{set:?} {at}");
                assert_eq!((found.items[0].class, head.classes()), (2, Some(classes - 1)));
                let score = if tensorflow { sigmoid(1.5) } else { 1.5f32.exp() / (1.5f32.exp() + 1.0) };
                assert!((found.items[0].score - score).abs() < 0.01, "{set:?}: {}", found.items[0].score);
                assert_box(&found.items[0].bbox, edges);
            }
        }
    }

    #[test]
    fn what_the_graph_has_done_is_not_done_again() {
        let priors = Priors::Published(PublishedPriors::MobilenetSsdPytorch).boxes(INPUT);
        let corners = |p: &PriorBox| {
            let [[x, y], [w, h]] = [p.center, p.size];
            [x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0]
        };
        let mut boxes: Vec<f32> = priors.iter().flat_map(corners).collect();
        let mut values: Vec<f32> = (0..3000).flat_map(|_| [8.0, 0.0, 1.0]).collect();
        values.chunks_exact_mut(3).for_each(softmax);
        boxes[400..404].copy_from_slice(&[0.1, 0.2, 0.3, 0.4]);
        values[300..303].copy_from_slice(&[0.25, 0.0, 0.75]);
        // As `qfgaohao/pytorch-ssd` names them, scores first.
        let outputs = [Tensor::new([1, 3000, 3], values).unwrap(), Tensor::new([1, 3000, 4], boxes).unwrap()];
        let infos = [output("scores", outputs[0].shape()), output("boxes", outputs[1].shape())];
        let mut head = bound(&known(&infos, Some(INPUT)));
        head.check_blank(&outputs, INPUT).unwrap();
        let found = decode_with(&*head, &outputs, INPUT, 0.5);
        assert_eq!((found.items.len(), found.items[0].class, found.items[0].score), (1, 1, 0.75));
        assert_box(&found.items[0].bbox, [30.0, 60.0, 90.0, 120.0]);
    }

    #[test]
    fn priors_of_ones_own() {
        let priors: Priors = toml::from_str::<crate::ModelSettings>(
            "priors = { levels = [{ grid = [4, 2], min_size = 40, aspect_ratios = [2] }], variances = [0.2, 0.4] }",
        )
        .unwrap()
        .priors
        .unwrap();
        let input = Size::new(80, 40);
        let (mut boxes, mut values) = (vec![0.0; 24 * 4], vec![0.0; 24 * 2]);
        values.chunks_exact_mut(2).for_each(|row| row[0] = 5.0);
        // The square of the second cell of the second row: centre 30, 30; moved by its half, and half as wide.
        boxes[60..64].copy_from_slice(&[2.5, 0.0, 0.5f32.ln() / 0.4, 0.0]);
        values[31] = 9.0;
        let outputs = [Tensor::new([1, 96], boxes).unwrap(), Tensor::new([1, 48], values).unwrap()];
        let infos = [output("mbox_loc", outputs[0].shape()), output("mbox_conf", outputs[1].shape())];
        let head = bound(&Known { priors: Some(&priors), ..known(&infos, Some(input)) });
        let found = decode_with(&*head, &outputs, input, 0.5);
        assert_eq!(found.items.len(), 1);
        assert_box(&found.items[0].bbox, [40.0, 10.0, 60.0, 50.0]);
    }

    #[test]
    fn priors_that_can_not_be_told_are_asked_for() {
        fn check(count: usize, classes: usize, input: (u32, u32), priors: Option<&str>, expected: &[&str]) {
            let infos = [output("loc", &[1, count, 4]), output("conf", &[1, count, classes])];
            let priors = priors.map(|text| toml::from_str::<crate::ModelSettings>(text).unwrap().priors.unwrap());
            let known = Known { priors: priors.as_ref(), ..known(&infos, Some(Size::new(input.0, input.1))) };
            assert_eq!(bind(&known).is_some(), expected.is_empty(), "{count} {classes}");
            for text in expected {
                let lacks = lacks(&known).expect("it is an SSD");
                assert!(lacks.contains(text), "{lacks}");
            }
        }
        let square = (300, 300);
        check(8732, 21, square, None, &[]);
        check(8732, 12, square, None, &["8732 boxes and 12 classes", "ssd300_voc and ssd300_coco has", "key priors"]);
        check(8732, 12, square, Some("priors = 'ssd300_voc'"), &[]);
        check(1917, 6, square, None, &["mobilenet_ssd and mobilenet_ssd_tensorflow"]);
        check(3000, 21, (320, 320), None, &["mobilenet_ssd_pytorch"]);
        check(1234, 21, square, None, &["none of the published sets", "by level"]);
        check(1234, 21, square, Some("priors = 'mobilenet_ssd'"), &["gives 1917 boxes, and the model has 1234"]);
    }
}
