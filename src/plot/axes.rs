//! A frame with ticks, and a bar of colours beside it.
use super::canvas::{Anchor, Canvas};
use super::colour::{BLACK, Rgb};

/// Width of frames and ticks, in points.
const THIN: f32 = 0.8;
/// Length of ticks.
const TICK: f32 = 3.5;
/// Between a tick and its number.
const PAD: f32 = 3.5;

/// A plot's rectangle on the canvas, and the values at its edges.
#[derive(Debug, Clone)]
pub struct Axes {
    /// Upper left corner.
    pub corner: [f32; 2],
    /// Width and height.
    pub size: [f32; 2],
    /// Values at the left and right edge.
    pub x: [f32; 2],
    /// At the lower and upper edge.
    pub y: [f32; 2],
    /// Of numbers and letters, in points.
    pub text: f32,
}

impl Axes {
    /// Where a pair of values is.
    pub fn at(&self, x: f32, y: f32) -> [f32; 2] {
        let part = |v: f32, [low, high]: [f32; 2]| (v - low) / (high - low);
        [self.corner[0] + self.size[0] * part(x, self.x), self.corner[1] + self.size[1] * (1. - part(y, self.y))]
    }

    /// A line through pairs of values.
    pub fn line(&self, canvas: &mut Canvas, values: &[[f32; 2]], width: f32, colour: Rgb) {
        let points: Vec<_> = values.iter().map(|[x, y]| self.at(*x, *y)).collect();
        canvas.line(&points, width, colour);
    }

    /// The frame.
    pub fn frame(&self, canvas: &mut Canvas) {
        let [[x0, x1], [y0, y1]] = [self.x, self.y];
        self.line(canvas, &[[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0], [x1, y0]], THIN, BLACK);
    }

    /// Ticks below, at these values.
    pub fn ticks_below(&self, canvas: &mut Canvas, ticks: &[(f32, String)]) {
        for (value, label) in ticks {
            let [x, y] = self.at(*value, self.y[0]);
            canvas.line(&[[x, y], [x, y + TICK]], THIN, BLACK);
            canvas.text(label, [x, y + TICK + PAD - 1.5], self.text, Anchor::Top);
        }
    }

    /// Ticks on the left.
    pub fn ticks_left(&self, canvas: &mut Canvas, ticks: &[(f32, String)]) {
        for (value, label) in ticks {
            let [x, y] = self.at(self.x[0], *value);
            canvas.line(&[[x - TICK, y], [x, y]], THIN, BLACK);
            canvas.text(label, [x - TICK - PAD, y], self.text, Anchor::Right);
        }
    }

    /// A text above.
    pub fn title(&self, canvas: &mut Canvas, text: &str) {
        let [x, y] = [self.corner[0] + self.size[0] / 2., self.corner[1] - 4.];
        canvas.text(text, [x, y], self.text * 1.2, Anchor::Bottom);
    }

    /// What the axes are.
    pub fn labels(&self, canvas: &mut Canvas, below: &str, left: &str) {
        let [x, y] = self.corner;
        let [width, height] = self.size;
        canvas.text(below, [x + width / 2., y + height + TICK + PAD + 1.3 * self.text], self.text, Anchor::Top);
        canvas.text(left, [x - 38., y + height / 2.], self.text, Anchor::Upwards);
    }

    /// A bar of colours on the right, from `low` to `high`.
    pub fn colour_bar(&self, canvas: &mut Canvas, [low, high]: [f32; 2], label: &str, colour: impl Fn(f32) -> Rgb) {
        let bar = Self {
            corner: [self.corner[0] + self.size[0] + 8., self.corner[1]],
            size: [(self.size[1] / 20.).max(5.), self.size[1]],
            x: [0., 1.],
            y: [low, high],
            text: self.text,
        };
        canvas.shade(bar.corner, bar.size, |_, down| Some(colour(1. - down)));
        bar.frame(canvas);
        for (value, number) in ticks([low, high], 6) {
            let [x, y] = bar.at(1., value);
            canvas.line(&[[x, y], [x + TICK, y]], THIN, BLACK);
            canvas.text(&number, [x + TICK + PAD, y], self.text, Anchor::Left);
        }
        if !label.is_empty() {
            let [x, y] = [bar.corner[0] + bar.size[0] + 44., bar.corner[1] + bar.size[1] / 2.];
            canvas.text(label, [x, y], self.text, Anchor::Upwards);
        }
    }
}

/// At most about `n` round values between two, with how they are written.
pub fn ticks([low, high]: [f32; 2], n: usize) -> Vec<(f32, String)> {
    let (low, high) = (f64::from(low.min(high)), f64::from(low.max(high)));
    let rough = (high - low) / n.max(1) as f64;
    if !rough.is_finite() || rough <= 0. {
        return Vec::new();
    }
    let power = 10f64.powf(rough.log10().floor());
    let step = [1., 2., 2.5, 5., 10.].map(|k| k * power).into_iter().find(|step| *step >= rough).unwrap_or(10. * power);
    let decimals = if step >= 1. && step.fract() == 0. { 0 } else { (-step.log10()).ceil().max(1.) as usize };
    let (first, last) = ((low / step).ceil() as i64, (high / step + 1e-9).floor() as i64);
    (first..=last).map(|k| k as f64 * step).map(|v| (v as f32, format!("{v:.decimals$}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        let of = |range, n| ticks(range, n).into_iter().map(|(_, label)| label).collect::<Vec<_>>().join(" ");
        assert_eq!(of([0., 100.], 6), "0 20 40 60 80 100");
        assert_eq!(of([0., 1.], 5), "0.0 0.2 0.4 0.6 0.8 1.0");
        assert_eq!(of([0., 76.], 8), "0 10 20 30 40 50 60 70");
        assert_eq!(of([76., 0.], 4), "0 20 40 60");
        assert_eq!(of([3., 3.], 5), "");
    }
}
