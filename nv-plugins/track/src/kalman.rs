use std::time::Duration;

use nv_plugin_sdk::{BBox, Point};

/// Follows a box: a constant-velocity Kalman filter over centre x, centre y, aspect ratio (width / height) and height, as
/// in DeepSORT (Wojke et al. 2017, "Simple Online and Realtime Tracking with a Deep Association Metric", §2.1) and
/// ByteTrack, in time instead of frames.
///
/// The eight-state filter of the papers has diagonal noise, so that its four coordinates never mix: it *is* four filters of
/// two states (value, rate), which is how it is computed here. Rates are per second.
///
/// **Time.** The papers' process noise is that of one frame at 30 per second. A step of `n` frames is that step `n` times;
/// written out, the sum is a polynomial in `n` that holds for any real `n` ([`Axis::predict`]). So at 30 frames a second
/// this is the papers' filter, and how a span of time is cut into steps makes no difference to the outcome.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BoxFilter {
    x: Axis,
    y: Axis,
    aspect: Axis,
    height: Axis,
}

/// Standard deviation of a position as a share of the box's height: of a measurement, and of the process in a step.
const POSITION: f64 = 1.0 / 20.0;
/// Standard deviation of a velocity in a step, in heights per step.
const VELOCITY: f64 = 1.0 / 160.0;
/// The same of the aspect ratio, and of its measurement. They don't depend on the height.
const ASPECT: f64 = 1e-2;
const ASPECT_RATE: f64 = 1e-5;
const ASPECT_MEASURED: f64 = 1e-1;
/// The papers' steps in a second.
const STEPS_PER_SECOND: f64 = 30.0;
/// Sides below this many pixels are no box; a prediction never shrinks below it.
const MIN_SIDE: f64 = 1e-2;
/// Edges beyond this many pixels are no picture's.
const MAX_EDGE: f32 = 1e6;

impl BoxFilter {
    /// Whether a box can be followed: its edges are numbers of a picture's order, its sides longer than nothing.
    pub(crate) fn accepts(bbox: &BBox) -> bool {
        [bbox.x1, bbox.y1, bbox.x2, bbox.y2].iter().all(|edge| edge.abs() <= MAX_EDGE)
            && f64::from(bbox.width()) >= MIN_SIDE
            && f64::from(bbox.height()) >= MIN_SIDE
    }

    /// A filter that has seen `bbox` once, at rest. The box must be one that it [`accepts`](Self::accepts).
    pub(crate) fn new(bbox: &BBox) -> Self {
        let [x, y, aspect, height] = coordinates(bbox);
        let axis = |value| Axis::new(value, 2.0 * POSITION * height, 10.0 * VELOCITY * height);
        Self { x: axis(x), y: axis(y), aspect: Axis::new(aspect, ASPECT, ASPECT_RATE), height: axis(height) }
    }

    /// Moves on by `dt`.
    pub(crate) fn predict(&mut self, dt: Duration) {
        let dt = dt.as_secs_f64();
        let height = self.height.value;
        for axis in [&mut self.x, &mut self.y, &mut self.height] {
            axis.predict(dt, POSITION * height, VELOCITY * height);
        }
        self.aspect.predict(dt, ASPECT, ASPECT_RATE);
        self.height.value = self.height.value.max(MIN_SIDE);
        self.aspect.value = self.aspect.value.max(MIN_SIDE / self.height.value);
    }

    /// Keeps the height as it is: without measurements, a growing or shrinking box soon fits nothing.
    pub(crate) fn hold_height(&mut self) {
        self.height.rate = 0.0;
    }

    /// Takes in a measured box, one that it [`accepts`](Self::accepts).
    pub(crate) fn update(&mut self, bbox: &BBox) {
        let [x, y, aspect, height] = coordinates(bbox);
        let std = POSITION * self.height.value;
        self.x.update(x, std);
        self.y.update(y, std);
        self.aspect.update(aspect, ASPECT_MEASURED);
        self.height.update(height, std);
    }

    /// The box as it is believed to be now.
    pub(crate) fn bbox(&self) -> BBox {
        let (width, height) = (self.aspect.value * self.height.value, self.height.value);
        BBox::from_center(Point::new(self.x.value as f32, self.y.value as f32), width as f32, height as f32)
    }
}

fn coordinates(bbox: &BBox) -> [f64; 4] {
    let [x1, y1, x2, y2] = <[f32; 4]>::from(*bbox).map(f64::from);
    [(x1 + x2) / 2.0, (y1 + y2) / 2.0, (x2 - x1) / (y2 - y1), y2 - y1]
}

/// One coordinate and its rate of change per second, with their covariance.
#[derive(Clone, Debug, PartialEq)]
struct Axis {
    value: f64,
    rate: f64,
    var_value: f64,
    covar: f64,
    var_rate: f64,
}

impl Axis {
    /// At rest at `value`; `step_rate_std` is the rate's deviation per step.
    fn new(value: f64, std: f64, step_rate_std: f64) -> Self {
        let rate_std = step_rate_std * STEPS_PER_SECOND;
        Self { value, rate: 0.0, var_value: std * std, covar: 0.0, var_rate: rate_std * rate_std }
    }

    /// Moves on by `dt` seconds, `n = 30 · dt` of the papers' steps. With σ² and ρ² the variances that one step adds to the
    /// value and to its rate (per step), n steps add
    ///
    /// ```text
    /// value:      n·σ² + ρ²·(0² + 1² + … + (n−1)²) = n·σ² + ρ²·n(n−1)(2n−1)/6
    /// covariance:        ρ²·(0 + 1 + … + (n−1))    =        ρ²·n(n−1)/2
    /// rate:              n·ρ²
    /// ```
    ///
    /// For every real n ≥ 0 this is a covariance as long as σ² ≥ ρ²/12, which holds for all four coordinates.
    fn predict(&mut self, dt: f64, step_std: f64, step_rate_std: f64) {
        let n = dt * STEPS_PER_SECOND;
        let (var, rate_var) = (step_std * step_std, step_rate_std * step_rate_std);
        self.value += dt * self.rate;
        self.var_value +=
            dt * (2.0 * self.covar + dt * self.var_rate) + n * var + rate_var * n * (n - 1.0) * (2.0 * n - 1.0) / 6.0;
        self.covar += dt * self.var_rate + rate_var * n * (n - 1.0) / 2.0 * STEPS_PER_SECOND;
        self.var_rate += n * rate_var * STEPS_PER_SECOND * STEPS_PER_SECOND;
    }

    fn update(&mut self, measured: f64, std: f64) {
        let innovation_var = self.var_value + std * std;
        let (gain, rate_gain) = (self.var_value / innovation_var, self.covar / innovation_var);
        let innovation = measured - self.value;
        self.value += gain * innovation;
        self.rate += rate_gain * innovation;
        self.var_rate -= rate_gain * self.covar;
        self.covar *= 1.0 - gain;
        self.var_value *= 1.0 - gain;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STEP: f64 = 1.0 / STEPS_PER_SECOND;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs()))
    }

    fn same(a: &Axis, b: &Axis) -> bool {
        close(a.value, b.value)
            && close(a.rate, b.rate)
            && close(a.var_value, b.var_value)
            && close(a.covar, b.covar)
            && close(a.var_rate, b.var_rate)
    }

    /// A box 100 high and 50 wide, its centre at (x, 300).
    fn person(x: f32) -> BBox {
        BBox::from_center(Point::new(x, 300.0), 50.0, 100.0)
    }

    #[test]
    fn a_step_of_a_thirtieth_is_the_papers() {
        let mut filter = BoxFilter::new(&person(200.0));
        filter.predict(Duration::from_secs_f64(STEP));
        // In pixels and pixels per step: P = F·diag(10², 6.25²)·Fᵀ + diag(5², 0.625²).
        let rate_var = 6.25f64 * 6.25;
        let expected = Axis {
            value: 200.0,
            rate: 0.0,
            var_value: 100.0 + rate_var + 25.0,
            covar: rate_var * 30.0,
            var_rate: (rate_var + 0.625 * 0.625) * 900.0,
        };
        // `Duration` counts whole nanoseconds.
        let near = |a: f64, b: f64| (a - b).abs() < 1e-6 * b.abs();
        assert!(near(filter.x.var_value, expected.var_value) && near(filter.x.covar, expected.covar), "{filter:?}");
        assert!(near(filter.x.var_rate, expected.var_rate), "{filter:?}");

        filter.update(&person(210.0));
        let innovation_var = expected.var_value + 25.0;
        assert!(near(filter.x.value, 200.0 + 10.0 * expected.var_value / innovation_var), "{filter:?}");
        assert!(near(filter.x.rate, 10.0 * expected.covar / innovation_var), "{filter:?}");
        assert!(near(filter.x.var_value, expected.var_value * 25.0 / innovation_var), "{filter:?}");
        assert!(near(filter.x.covar, expected.covar * 25.0 / innovation_var), "{filter:?}");
        assert!(near(filter.y.value, 300.0) && near(filter.height.value, 100.0) && near(filter.aspect.value, 0.5));
    }

    #[test]
    fn a_seen_box_comes_back() {
        let bbox = BBox::new(10.0, 20.0, 50.0, 120.0);
        assert_eq!(BoxFilter::new(&bbox).bbox(), bbox);
    }

    #[test]
    fn the_same_motion_at_any_frame_rate_gives_the_same_estimates() {
        // 60 pixels a second to the right, growing by 10 % a second.
        let at =
            |t: f64| BBox::from_center(Point::new((200.0 + 60.0 * t) as f32, 300.0), 50.0, (100.0 + 10.0 * t) as f32);
        for fps in [7.0, 10.0, 30.0, 60.0] {
            let mut filter = BoxFilter::new(&at(0.0));
            for i in 1..=(4.0 * fps) as i32 {
                filter.predict(Duration::from_secs_f64(1.0 / fps));
                filter.update(&at(f64::from(i) / fps));
            }
            assert!((filter.x.rate - 60.0).abs() < 1.0, "{fps} fps: {filter:?}");
            assert!((filter.height.rate - 10.0).abs() < 1.0, "{fps} fps: {filter:?}");
            assert!((filter.x.value - 440.0).abs() < 1.0, "{fps} fps: {filter:?}");
            filter.predict(Duration::from_millis(500));
            assert!((filter.bbox().center().x - 470.0).abs() < 2.0, "{fps} fps: {filter:?}");
        }
    }

    #[test]
    fn a_shrinking_box_stays_a_box() {
        let mut filter = BoxFilter::new(&person(200.0));
        for height in [90.0, 70.0, 50.0, 30.0] {
            filter.predict(Duration::from_millis(100));
            filter.update(&BBox::from_center(Point::new(200.0, 300.0), 50.0, height));
        }
        for _ in 0..100 {
            filter.predict(Duration::from_secs(1));
            assert!(!filter.bbox().is_empty(), "{filter:?}");
        }
    }

    #[test]
    fn boxes_that_can_be_followed() {
        fn check(bbox: [f32; 4], expected: bool) {
            assert_eq!(BoxFilter::accepts(&bbox.into()), expected, "{bbox:?}");
        }
        check([0.0, 0.0, 10.0, 20.0], true);
        check([-5.0, -5.0, 0.5, 0.5], true);
        check([10.0, 0.0, 0.0, 20.0], false);
        check([0.0, 0.0, 10.0, 0.0], false);
        check([f32::NAN, 0.0, 10.0, 20.0], false);
        check([0.0, 0.0, f32::INFINITY, 20.0], false);
        check([0.0, 0.0, 1e30, 1e30], false);
    }

    proptest! {
        #[test]
        fn how_time_is_cut_makes_no_difference(cuts in prop::collection::vec(0.0f64..0.5, 1..8)) {
            let start = Axis { value: 5.0, rate: 2.0, var_value: 30.0, covar: 4.0, var_rate: 9.0 };
            let (mut whole, mut parts) = (start.clone(), start);
            whole.predict(cuts.iter().sum(), 5.0, 0.625);
            for dt in cuts {
                parts.predict(dt, 5.0, 0.625);
            }
            prop_assert!(same(&whole, &parts), "{:?} {:?}", whole, parts);
        }

        #[test]
        fn the_covariance_stays_one(height in 0.01f64..1e4, steps in prop::collection::vec((0.0f64..3.0, any::<bool>()), 1..40)) {
            let mut axis = Axis::new(0.0, 2.0 * POSITION * height, 10.0 * VELOCITY * height);
            let mut aspect = Axis::new(0.5, ASPECT, ASPECT_RATE);
            for (dt, seen) in steps {
                axis.predict(dt, POSITION * height, VELOCITY * height);
                aspect.predict(dt, ASPECT, ASPECT_RATE);
                if seen {
                    axis.update(1.0, POSITION * height);
                    aspect.update(0.4, ASPECT_MEASURED);
                }
                for a in [&axis, &aspect] {
                    prop_assert!(a.var_value > 0.0 && a.var_rate > 0.0, "{:?}", a);
                    prop_assert!(a.var_value * a.var_rate - a.covar * a.covar > 0.0, "{:?}", a);
                }
            }
        }
    }
}
