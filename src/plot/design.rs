//! Pictures of many designs: one score against another with the thresholds of filters, how scores are spread, how many pass so far.
//! Numbers that are not finite are left out and counted.
use super::axes::{Axes, ticks};
use super::canvas::{Anchor, Canvas};
use super::colour::Rgb;

/// Size of numbers and letters in points.
const TEXT: f32 = 9.;
/// Of what is beside a line.
const SMALL: f32 = 8.;
/// Width of thresholds and of lines that count.
const LINE: f32 = 1.2;
/// Colours of groups and lines, told apart by people who see few colours (Okabe and Ito 2008).
const GROUPS: [Rgb; 5] =
    [[0x00, 0x9e, 0x73], [0x00, 0x72, 0xb2], [0xd5, 0x5e, 0x00], [0xcc, 0x79, 0xa7], [0xe6, 0x9f, 0x00]];
/// Of the last group, in which are those that pass nothing.
const REST: Rgb = [0xb4, 0xb4, 0xb4];
/// Of thresholds.
const THRESHOLD: Rgb = [0x50, 0x50, 0x50];

/// An axis: what it is, its ends, and the thresholds on it with their names.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    /// Score and unit.
    pub label: String,
    /// What lies beyond is drawn at the end.
    pub range: [f64; 2],
    /// Values with their names.
    pub thresholds: Vec<(f64, String)>,
}

/// One score of each design against another.
#[derive(Debug, Clone, PartialEq)]
pub struct Scatter {
    /// Above.
    pub title: String,
    /// To the right.
    pub x: Scale,
    /// Upwards.
    pub y: Scale,
    /// Both scores, and the group that colours the design.
    pub points: Vec<([f64; 2], usize)>,
    /// Names of the groups, the best first; the last is grey.
    pub groups: Vec<String>,
}

/// How one distance is spread.
#[derive(Debug, Clone, PartialEq)]
pub struct Spread {
    /// What it is.
    pub label: String,
    /// Of each design, Å, and whether the design passes.
    pub values: Vec<(f64, bool)>,
    /// What is better is below, Å.
    pub threshold: f64,
}

/// How many designs pass one filter.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    /// The filter.
    pub label: String,
    /// Of each design in the order of samples.
    pub passes: Vec<bool>,
}

fn colour(group: usize, n: usize) -> Rgb {
    if group + 1 >= n { REST } else { GROUPS[group % GROUPS.len()] }
}

/// Of a line; the first of the groups passes several filters.
fn of_course(k: usize) -> Rgb {
    GROUPS[(k + 1) % GROUPS.len()]
}

/// Scatter plots side by side.
pub fn scatters(panels: &[Scatter]) -> Vec<u8> {
    let pitch = 420.;
    let Some(mut canvas) = Canvas::new(pitch * panels.len() as f32, 424.) else { return Vec::new() };
    for (k, panel) in panels.iter().enumerate() {
        scatter(&mut canvas, panel, pitch * k as f32);
    }
    canvas.png()
}

fn scatter(canvas: &mut Canvas, panel: &Scatter, left: f32) {
    let (x, y) = (panel.x.range.map(|v| v as f32), panel.y.range.map(|v| v as f32));
    let axes = Axes { corner: [left + 54., 44.], size: [316., 300.], x, y, text: TEXT };
    for (value, name) in &panel.x.thresholds {
        let top = axes.at(*value as f32, y[1]);
        canvas.dashes(&[top, axes.at(*value as f32, y[0])], LINE, THRESHOLD);
        canvas.text_in(THRESHOLD, name, [top[0], top[1] - 2.], SMALL, Anchor::Bottom);
    }
    for (value, name) in &panel.y.thresholds {
        let end = axes.at(x[1], *value as f32);
        canvas.dashes(&[axes.at(x[0], *value as f32), end], LINE, THRESHOLD);
        canvas.text_in(THRESHOLD, name, [end[0] + 3., end[1]], SMALL, Anchor::Left);
    }
    let n = panel.groups.len();
    let known = |(at, _): &&([f64; 2], usize)| at.iter().all(|v| v.is_finite());
    let (size, opacity) = if panel.points.len() > 300 { (1.7, 0.7) } else { (2.3, 0.8) };
    // The best are drawn last, over the others.
    for group in (0..n).rev() {
        for ([px, py], _) in panel.points.iter().filter(known).filter(|(_, of)| *of == group) {
            let at = axes.at((*px as f32).clamp(x[0], x[1]), (*py as f32).clamp(y[0], y[1]));
            let size = if group + 1 < n { size + 0.5 } else { size };
            canvas.disc(at, size, colour(group, n), opacity);
        }
    }
    axes.frame(canvas);
    axes.ticks_below(canvas, &ticks(x, 7));
    axes.ticks_left(canvas, &ticks(y, 6));
    axes.labels(canvas, &panel.x.label, &panel.y.label);
    canvas.text(&panel.title, [axes.corner[0] + axes.size[0] / 2., 24.], TEXT * 1.2, Anchor::Bottom);
    let counts = group_counts(panel);
    let mut rows: Vec<(Option<Rgb>, String)> =
        counts.0.iter().enumerate().map(|(g, c)| (Some(colour(g, n)), format!("{} {c}", panel.groups[g]))).collect();
    if counts.1 > 0 {
        rows.push((None, format!("unknown {}", counts.1)));
    }
    legend(canvas, &axes, &rows);
}

/// Points of each group that are drawn, and those that have no place.
fn group_counts(panel: &Scatter) -> (Vec<usize>, usize) {
    let mut drawn = vec![0; panel.groups.len()];
    let mut rest = 0;
    for (at, group) in &panel.points {
        match drawn.get_mut(*group).filter(|_| at.iter().all(|v| v.is_finite())) {
            Some(count) => *count += 1,
            None => rest += 1,
        }
    }
    (drawn, rest)
}

/// Names of colours below the axis, where they hide no point.
fn legend(canvas: &mut Canvas, axes: &Axes, rows: &[(Option<Rgb>, String)]) {
    for (k, (colour, text)) in rows.iter().enumerate() {
        let left = axes.corner[0] - 10. + if k % 2 == 0 { 0. } else { 178. };
        let middle = axes.corner[1] + axes.size[1] + 42. + 12. * (k / 2) as f32;
        if let Some(colour) = colour {
            canvas.disc([left, middle], 3., *colour, 1.);
        }
        canvas.text(text, [left + 7., middle], SMALL, Anchor::Left);
    }
}

/// Bars of a spread: of each bin those that pass and those that do not.
#[derive(Debug, Clone, PartialEq)]
struct Bins {
    /// End of the axis, Å; what is larger is in the last bin, which stands behind it.
    end: f64,
    /// Passing and other designs.
    counts: Vec<[usize; 2]>,
    /// Designs without a number.
    unknown: usize,
    /// Designs below the threshold.
    below: usize,
}

/// Width of the bins of an axis, Å: the thresholds of the filters are between two of them.
fn width(end: f64) -> f64 {
    if end > 10. { 0.5 } else { 0.25 }
}

impl Bins {
    fn new(spread: &Spread, end: f64) -> Self {
        let width = width(end);
        let n = (end / width).round() as usize;
        let mut bins = Self { end, counts: vec![[0; 2]; n + 1], unknown: 0, below: 0 };
        for (value, passes) in &spread.values {
            if !value.is_finite() {
                bins.unknown += 1;
                continue;
            }
            let at = ((value.max(0.) / width) as usize).min(n);
            bins.counts[at][usize::from(!passes)] += 1;
            bins.below += usize::from(*value < spread.threshold);
        }
        bins
    }

    fn highest(&self) -> usize {
        self.counts.iter().map(|[a, b]| a + b).max().unwrap_or(0)
    }
}

/// A round end of the axis with nearly all values and all thresholds before it.
fn end_of(spreads: &[Spread]) -> f64 {
    let mut all: Vec<f64> = spreads.iter().flat_map(|s| &s.values).map(|(v, _)| *v).filter(|v| v.is_finite()).collect();
    all.sort_by(f64::total_cmp);
    let high = all.get(all.len() * 95 / 100).copied().unwrap_or(0.);
    let wanted = spreads.iter().map(|s| s.threshold * 1.25).fold(high, f64::max);
    [5., 10., 20., 30.].into_iter().find(|end| *end >= wanted).unwrap_or(30.)
}

/// Bars of several distances below each other on one scale.
pub fn spreads(spreads: &[Spread]) -> Vec<u8> {
    let (pitch, top) = (104., 26.);
    let Some(mut canvas) = Canvas::new(440., top + pitch * spreads.len() as f32 + 30.) else { return Vec::new() };
    let end = end_of(spreads);
    let bin = width(end);
    for (k, spread) in spreads.iter().enumerate() {
        let bins = Bins::new(spread, end);
        let highest = bins.highest().max(1) as f32 * 1.08;
        let corner = [50., top + 18. + pitch * k as f32];
        // Behind the end there is a gap, and the bin of what is larger.
        let axes = Axes { corner, size: [376., 64.], x: [0., (end + 2.5 * bin) as f32], y: [0., highest], text: TEXT };
        for (i, [passing, others]) in bins.counts.iter().enumerate() {
            let start = if i + 1 < bins.counts.len() { i as f64 * bin } else { end + bin };
            let mut base = 0.;
            for (count, colour) in [(*passing, GROUPS[1]), (*others, REST)] {
                let [left, high] = axes.at(start as f32, base + count as f32);
                let [right, low] = axes.at((start + bin) as f32, base);
                if count > 0 {
                    canvas.area([left + 0.3, high], [right - left - 0.6, low - high], colour);
                }
                base += count as f32;
            }
        }
        let at = spread.threshold as f32;
        canvas.dashes(&[axes.at(at, 0.), axes.at(at, highest)], LINE, THRESHOLD);
        axes.frame(&mut canvas);
        let mut below = ticks([0., end as f32], 10);
        below.push(((end + 1.5 * bin) as f32, format!(">{end}")));
        if let Some(last) = below.len().checked_sub(2).filter(|last| f64::from(below[*last].0) > end - 1.8 * bin) {
            below.remove(last); // its number would touch that of what is larger
        }
        axes.ticks_below(&mut canvas, &below);
        axes.ticks_left(&mut canvas, &whole(bins.highest(), 3));
        canvas.text(&spread.label, [corner[0], corner[1] - 8.], TEXT, Anchor::Left);
        let known = spread.values.len() - bins.unknown;
        let unknown = if bins.unknown > 0 { format!(", {} unknown", bins.unknown) } else { String::new() };
        let told = format!("{} of {known} below {} Å{unknown}", bins.below, spread.threshold);
        canvas.text_in(THRESHOLD, &told, [corner[0] + axes.size[0], corner[1] - 8.], SMALL, Anchor::Right);
    }
    canvas.text("RMSD of CA atoms, Å", [238., top + pitch * spreads.len() as f32 + 12.], TEXT, Anchor::Top);
    for (x, colour, name) in [(290., GROUPS[1], "passes"), (350., REST, "does not pass")] {
        canvas.area([x, 8.], [8., 8.], colour);
        canvas.text(name, [x + 12., 12.], SMALL, Anchor::Left);
    }
    canvas.text("Distances", [50., 12.], TEXT * 1.2, Anchor::Left);
    canvas.png()
}

/// Whole numbers from 0 on, at most about `n`.
fn whole(highest: usize, n: usize) -> Vec<(f32, String)> {
    let rough = highest.div_ceil(n.max(1)).max(1);
    let powers = (0..18).map(|k| 10usize.pow(k));
    let step = powers.flat_map(|p| [1, 2, 5].map(|k| k * p)).find(|step| *step >= rough).unwrap_or(rough);
    (0..=highest).step_by(step).map(|v| (v as f32, v.to_string())).collect()
}

/// Corners of a staircase: how many have passed when so many are done.
fn stairs(passes: &[bool]) -> Vec<[f32; 2]> {
    let (mut corners, mut count) = (vec![[0., 0.]], 0.);
    for (i, _) in passes.iter().enumerate().filter(|(_, passes)| **passes) {
        corners.push([i as f32 + 1., count]);
        count += 1.;
        corners.push([i as f32 + 1., count]);
    }
    corners.push([passes.len() as f32, count]);
    corners
}

/// Designs that pass against samples that are done, a line a filter.
pub fn yields(title: &str, courses: &[Course]) -> Vec<u8> {
    let Some(mut canvas) = Canvas::new(470., 300.) else { return Vec::new() };
    let n = courses.iter().map(|c| c.passes.len()).max().unwrap_or(0);
    let counts: Vec<usize> = courses.iter().map(|c| c.passes.iter().filter(|p| **p).count()).collect();
    let highest = counts.iter().copied().max().unwrap_or(0).max(1);
    let (x, y) = ([0., n.max(1) as f32], [0., highest as f32 * 1.05]);
    let axes = Axes { corner: [54., 28.], size: [246., 222.], x, y, text: TEXT };
    for (k, course) in courses.iter().enumerate() {
        axes.line(&mut canvas, &stairs(&course.passes), LINE, of_course(k));
    }
    axes.frame(&mut canvas);
    axes.ticks_below(&mut canvas, &whole(n.max(1), 6));
    axes.ticks_left(&mut canvas, &whole(highest, 6));
    axes.labels(&mut canvas, "samples done", "designs that pass");
    axes.title(&mut canvas, title);
    let ends: Vec<f32> = counts.iter().map(|count| axes.at(0., *count as f32)[1]).collect();
    for (k, (place, end)) in spaced(&ends, 11., axes.corner[1] + axes.size[1]).into_iter().zip(&ends).enumerate() {
        let right = axes.corner[0] + axes.size[0];
        let colour = of_course(k);
        canvas.line(&[[right, *end], [right + 10., place]], 0.6, colour);
        let share = if n > 0 { format!(" ({:.1} %)", 100. * counts[k] as f64 / n as f64) } else { String::new() };
        let text = format!("{} {}{share}", courses[k].label, counts[k]);
        canvas.text_in(colour, &text, [right + 12., place], SMALL, Anchor::Left);
    }
    canvas.png()
}

/// Heights moved apart to `gap` at least, none below `lowest`; heights grow downwards.
fn spaced(heights: &[f32], gap: f32, lowest: f32) -> Vec<f32> {
    let mut order: Vec<usize> = (0..heights.len()).collect();
    order.sort_by(|a, b| heights[*b].total_cmp(&heights[*a]).then(b.cmp(a)));
    let (mut placed, mut limit) = (heights.to_vec(), lowest);
    for i in order {
        placed[i] = placed[i].min(limit);
        limit = placed[i] - gap;
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(png: &[u8]) -> (u32, u32) {
        let image = tiny_skia::Pixmap::decode_png(png).expect("a PNG");
        (image.width(), image.height())
    }

    fn scatter_of(points: Vec<([f64; 2], usize)>) -> Scatter {
        let scale = |thresholds| Scale { label: "s".to_owned(), range: [0., 1.], thresholds };
        let groups = vec!["good".to_owned(), "rest".to_owned()];
        let (x, y) = (scale(vec![(0.5, "t".to_owned())]), scale(vec![]));
        Scatter { title: "t".to_owned(), x, y, points, groups }
    }

    const STRANGE: [f64; 6] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1e300, 1e300, 0.];

    #[test]
    fn anything_can_be_drawn() {
        let strange = STRANGE.iter().flat_map(|x| STRANGE.iter().map(move |y| ([*x, *y], 9))).collect();
        for points in [vec![], vec![([0.5, 0.5], 0)], strange] {
            assert_eq!(size(&scatters(&[scatter_of(points.clone()), scatter_of(points)])), (2334, 1178));
        }
        let spread = |values: &[f64]| Spread {
            label: "d".to_owned(),
            values: values.iter().map(|v| (*v, true)).collect(),
            threshold: 2.5,
        };
        for values in [&[][..], &[1.], &[f64::NAN; 4], &STRANGE] {
            assert_eq!(size(&spreads(&[spread(values), spread(values)])), (1223, 734));
        }
        for passes in [vec![], vec![true], vec![false; 3], vec![true; 2000]] {
            let course = Course { label: "f".to_owned(), passes };
            assert_eq!(size(&yields("t", &[course.clone(), course])), (1306, 834));
        }
        assert!(scatters(&[]).is_empty() && !spreads(&[]).is_empty() && !yields("", &[]).is_empty());
    }

    #[test]
    fn the_best_lie_above_and_what_has_no_place_is_counted() {
        let panel = scatter_of(vec![([0.3, 0.3], 0), ([0.3, 0.3], 1), ([f64::NAN, 0.], 0), ([9., 0.], 1)]);
        assert_eq!(group_counts(&panel), (vec![1, 2], 1));
        let image = tiny_skia::Pixmap::decode_png(&scatters(&[panel])).expect("a PNG");
        let axes = Axes { corner: [54., 44.], size: [316., 300.], x: [0., 1.], y: [0., 1.], text: TEXT };
        let at = |x, y| {
            let [x, y] = axes.at(x, y).map(|v| super::super::canvas::pixels(v) as u32);
            image.pixel(x, y).map(|p| [p.red(), p.green(), p.blue()])
        };
        let [r, g, _] = at(0.3, 0.3).expect("inside");
        assert!(g > 140 && r < 60, "green above grey: {r} {g}");
        assert_eq!(at(0.7, 0.3), Some([255; 3]));
    }

    #[test]
    fn bins_count_every_design_once() {
        let values = vec![(0.1, true), (0.24, false), (0.26, true), (9.99, false), (10., false), (1e9, true)];
        let mut spread = Spread { label: String::new(), values, threshold: 0.25 };
        let bins = Bins::new(&spread, 10.);
        assert_eq!((bins.counts[0], bins.counts[1], bins.counts[39]), ([1, 1], [1, 0], [0, 1]));
        assert_eq!((bins.counts[40], bins.below, bins.unknown), ([1, 1], 2, 0));
        spread.values = vec![(f64::NAN, true), (f64::INFINITY, true), (-1., true)];
        let bins = Bins::new(&spread, 10.);
        assert_eq!((bins.counts[0], bins.unknown, bins.highest()), ([1, 0], 2, 1));
    }

    #[test]
    fn the_axis_ends_behind_nearly_all() {
        let of = |n: usize, value: f64| Spread {
            label: String::new(),
            values: (0..n).map(|_| (value, true)).collect(),
            threshold: 3.5,
        };
        assert_eq!(
            [of(0, 0.), of(9, 1.), of(9, 9.), of(9, 1e9), of(9, f64::NAN)].map(|s| end_of(&[s])),
            [5., 5., 10., 30., 5.]
        );
    }

    #[test]
    fn a_yield_counts_in_the_order_of_samples() {
        assert_eq!(stairs(&[false, true, true, false]), [[0., 0.], [2., 0.], [2., 1.], [3., 1.], [3., 2.], [4., 2.]]);
        assert_eq!(stairs(&[]), [[0., 0.], [0., 0.]]);
        let labels = |highest, n| whole(highest, n).into_iter().map(|(_, label)| label).collect::<Vec<_>>().join(" ");
        assert_eq!([labels(1, 6), labels(7, 4), labels(1000, 8)], ["0 1", "0 2 4 6", "0 200 400 600 800 1000"]);
    }

    #[test]
    fn names_at_ends_do_not_overlap() {
        assert_eq!(spaced(&[100., 100., 50.], 11., 100.), [89., 100., 50.]);
    }
}
