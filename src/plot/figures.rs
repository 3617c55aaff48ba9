//! The pictures.
use super::axes::{Axes, ticks};
use super::canvas::{Anchor, Canvas};
use super::colour::{BLACK, LINES, Rgb, blue_white_red, rainbow};

/// Size of numbers and letters in points.
const TEXT: f32 = 9.;
/// Width of lines.
const LINE: f32 = 1.5;
/// Errors that are drawn as the largest, in Å.
const MAX_PAE: f32 = 30.;

/// Where a chain ends and the next begins, but for the last.
fn borders(lengths: &[usize]) -> Vec<f32> {
    let mut ends: Vec<f32> = lengths
        .iter()
        .scan(0., |sum, n| {
            *sum += *n as f32;
            Some(*sum)
        })
        .collect();
    ends.pop();
    ends
}

/// Wide frame of 8 by 5 inches with room for its numbers.
fn wide(x: [f32; 2], y: [f32; 2], right: f32) -> (Option<Canvas>, Axes) {
    let axes = Axes { corner: [56., 24.], size: [490. - right, 277.], x, y, text: TEXT };
    (Canvas::new(576., 348.), axes)
}

/// pLDDT of each residue, a line a prediction; `lengths` are those of the chains.
pub fn plddt(predictions: &[(String, Vec<f32>)], lengths: &[usize]) -> Vec<u8> {
    let n: usize = lengths.iter().sum();
    let (Some(mut canvas), axes) = wide([0., n.max(2) as f32 - 1.], [0., 100.], 0.) else { return Vec::new() };
    axes.title(&mut canvas, "Predicted lDDT per position");
    for (k, (_, values)) in predictions.iter().enumerate() {
        let line: Vec<_> = values.iter().enumerate().map(|(i, v)| [i as f32, v.clamp(0., 100.)]).collect();
        axes.line(&mut canvas, &line, LINE, LINES[k % LINES.len()]);
    }
    for x in borders(lengths) {
        axes.line(&mut canvas, &[[x, 0.], [x, 100.]], LINE, BLACK);
    }
    axes.frame(&mut canvas);
    axes.ticks_below(&mut canvas, &ticks(axes.x, 9));
    axes.ticks_left(&mut canvas, &ticks(axes.y, 6));
    axes.labels(&mut canvas, "Positions", "Predicted lDDT");
    legend(&mut canvas, &axes, predictions.iter().map(|(label, _)| label.as_str()));
    canvas.png()
}

/// Names of the lines in the lower left corner.
fn legend<'a>(canvas: &mut Canvas, axes: &Axes, labels: impl ExactSizeIterator<Item = &'a str>) {
    let [x, bottom] = axes.at(axes.x[0], axes.y[0]);
    let n = labels.len();
    for (k, label) in labels.enumerate() {
        let y = bottom - 8. - (n - 1 - k) as f32 * 1.3 * TEXT;
        canvas.line(&[[x + 8., y], [x + 26., y]], LINE, LINES[k % LINES.len()]);
        canvas.text(label, [x + 32., y], TEXT, Anchor::Left);
    }
}

/// Aligned errors `[n, n]` of predictions side by side, row = residue aligned on; `lengths` are those of the chains.
pub fn pae(predictions: &[(String, Vec<f32>)], lengths: &[usize]) -> Vec<u8> {
    let n: usize = lengths.iter().sum();
    let (side, pitch) = (108., 206.);
    let Some(mut canvas) = Canvas::new(pitch * predictions.len() as f32 + 8., 152.) else { return Vec::new() };
    for (k, (label, values)) in predictions.iter().enumerate() {
        let edge = n as f32;
        let corner = [36. + pitch * k as f32, 20.];
        let axes = Axes { corner, size: [side, side], x: [0., edge], y: [edge, 0.], text: TEXT };
        let cell = |part: f32| ((part * edge) as usize).min(n - 1);
        let colour = |i: usize, j: usize| values.get(i * n + j).map(|v| blue_white_red(v / MAX_PAE));
        canvas.shade(axes.corner, axes.size, |x, y| colour(cell(y), cell(x)));
        for end in borders(lengths) {
            axes.line(&mut canvas, &[[0., end], [edge, end]], LINE / 2., BLACK);
            axes.line(&mut canvas, &[[end, 0.], [end, edge]], LINE / 2., BLACK);
        }
        axes.frame(&mut canvas);
        axes.title(&mut canvas, label);
        axes.ticks_below(&mut canvas, &ticks(axes.x, 4));
        axes.ticks_left(&mut canvas, &letters(lengths).unwrap_or_else(|| ticks(axes.x, 4)));
        axes.colour_bar(&mut canvas, [0., MAX_PAE], "", blue_white_red);
    }
    canvas.png()
}

/// The middles of the chains with A, B, ..., if there are several.
fn letters(lengths: &[usize]) -> Option<Vec<(f32, String)>> {
    let mut start = 0;
    let name = |k: usize| char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[k % 52]).to_string();
    let middle = |(k, n): (usize, &usize)| {
        start += n;
        (start as f32 - *n as f32 / 2., name(k))
    };
    (lengths.len() > 1).then(|| lengths.iter().enumerate().map(middle).collect())
}

/// An alignment.
#[derive(Debug, Clone, Copy)]
pub struct Coverage<'a> {
    /// `[n_row, n]`, the query first.
    pub rows: &'a [u8],
    /// The letter that is none.
    pub gap: u8,
    /// Residues of each chain.
    pub lengths: &'a [usize],
}

/// Rows that cover the same chains together, in each group by their identity with the query: which letters are there, and the
/// identity; and where a group ends.
fn grouped(c: &Coverage<'_>) -> (Vec<(Vec<bool>, f32)>, Vec<usize>) {
    let n: usize = c.lengths.iter().sum();
    let query = &c.rows[..n];
    let mut rows: Vec<(Vec<bool>, Vec<bool>, f32)> = Vec::new();
    for row in c.rows.chunks_exact(n) {
        let filled: Vec<bool> = row.iter().map(|letter| *letter != c.gap).collect();
        let (mut start, mut covered, mut identity) = (0, Vec::new(), 0f64);
        for length in c.lengths {
            let range = start..start + length;
            covered.push(filled[range.clone()].contains(&true));
            let same = row[range.clone()].iter().zip(&query[range]).filter(|(a, b)| a == b).count();
            identity += same as f64 / *length as f64;
            start += length;
        }
        let n_covered = covered.iter().filter(|there| **there).count() as f64;
        rows.push((covered, filled, (identity / (n_covered + 1e-8)) as f32));
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0).then(a.2.total_cmp(&b.2)));
    let mut ends: Vec<usize> = (1..rows.len()).filter(|&i| rows[i].0 != rows[i - 1].0).collect();
    ends.push(rows.len());
    (rows.into_iter().map(|(_, filled, identity)| (filled, identity)).collect(), ends)
}

/// How many rows there are at each position, and how near they are to the query.
pub fn coverage(c: &Coverage<'_>) -> Vec<u8> {
    let n: usize = c.lengths.iter().sum();
    if n == 0 || c.rows.len() < n {
        return Vec::new();
    }
    let (rows, ends) = grouped(c);
    let n_row = rows.len();
    let (Some(mut canvas), axes) = wide([0., n as f32], [0., n_row as f32], 80.) else { return Vec::new() };
    axes.title(&mut canvas, "Sequence coverage");
    let cell = |part: f32, n: usize| ((part * n as f32) as usize).min(n - 1);
    canvas.shade(axes.corner, axes.size, |x, y| -> Option<Rgb> {
        let (filled, identity) = &rows[cell(1. - y, n_row)];
        filled[cell(x, n)].then(|| rainbow(*identity))
    });
    for x in borders(c.lengths) {
        axes.line(&mut canvas, &[[x, 0.], [x, n_row as f32]], LINE, BLACK);
    }
    for end in &ends[..ends.len() - 1] {
        axes.line(&mut canvas, &[[0., *end as f32], [n as f32, *end as f32]], LINE, BLACK);
    }
    let count = |i: usize| rows.iter().filter(|(filled, _)| filled[i]).count() as f32;
    let line: Vec<_> = (0..n).map(|i| [i as f32, count(i)]).collect();
    axes.line(&mut canvas, &line, LINE, BLACK);
    axes.frame(&mut canvas);
    axes.ticks_below(&mut canvas, &ticks(axes.x, 9));
    axes.ticks_left(&mut canvas, &ticks(axes.y, 8));
    axes.labels(&mut canvas, "Positions", "Sequences");
    axes.colour_bar(&mut canvas, [0., 1.], "Sequence identity to query", rainbow);
    canvas.png()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(png: &[u8]) -> tiny_skia::Pixmap {
        tiny_skia::Pixmap::decode_png(png).expect("a PNG")
    }

    /// The colour at a point of a plot, by its values.
    fn colour(image: &tiny_skia::Pixmap, axes: &Axes, x: f32, y: f32) -> Rgb {
        let [x, y] = axes.at(x, y).map(|v| super::super::canvas::pixels(v) as u32);
        let p = image.pixel(x, y).expect("inside");
        [p.red(), p.green(), p.blue()]
    }

    #[test]
    fn rows_of_the_same_chains_are_together() {
        // Chains of 2 and 3 residues: all, the second alone, the first alone, all and unlike.
        let rows = [1, 2, 3, 4, 5, 9, 9, 3, 4, 9, 1, 2, 9, 9, 9, 7, 7, 7, 4, 7];
        let (rows, ends) = grouped(&Coverage { rows: &rows, gap: 9, lengths: &[2, 3] });
        assert_eq!(ends, [1, 2, 4]);
        let identity: Vec<f32> = rows.iter().map(|(_, identity)| *identity).collect();
        for (got, want) in identity.iter().zip([2. / 3., 1., 1. / 6., 1.]) {
            assert!((got - want).abs() < 1e-6, "{identity:?}");
        }
        assert_eq!(rows[0].0, [false, false, true, true, false]);
    }

    #[test]
    fn a_coverage_shows_rows_and_gaps() {
        let n = 40;
        let mut rows = vec![3u8; 4 * n];
        rows[n..n + 20].fill(21);
        let image = pixels(&coverage(&Coverage { rows: &rows, gap: 21, lengths: &[n] }));
        let (_, axes) = wide([0., n as f32], [0., 4.], 80.);
        // The row with gaps is the least like the query: the lowest.
        assert_eq!(colour(&image, &axes, 10., 0.5), [255; 3]);
        assert_eq!(colour(&image, &axes, 30., 0.5), rainbow(0.5));
        assert_eq!(colour(&image, &axes, 10., 2.5), rainbow(1.));
    }

    #[test]
    fn errors_are_blue_to_red_from_the_upper_left() {
        let n = 30;
        let values: Vec<f32> = (0..n * n).map(|k| if k / n < 15 && k % n >= 15 { 30. } else { 0. }).collect();
        let image = pixels(&pae(&[("rank_1".to_owned(), values.clone()), ("rank_2".to_owned(), values)], &[10, 20]));
        let axes = Axes { corner: [36., 20.], size: [108., 108.], x: [0., 30.], y: [30., 0.], text: TEXT };
        assert_eq!(colour(&image, &axes, 22.5, 5.5), [255, 0, 0]);
        assert_eq!(colour(&image, &axes, 5.5, 22.5), [0, 0, 255]);
        assert_eq!(image.height(), 423);
    }

    #[test]
    fn a_line_is_where_its_values_are() {
        let values = vec![50.; 20];
        let image = pixels(&plddt(&[("rank_1".to_owned(), values)], &[20]));
        let (_, axes) = wide([0., 19.], [0., 100.], 0.);
        assert_eq!(colour(&image, &axes, 10., 50.), LINES[0]);
        assert_eq!(colour(&image, &axes, 10., 70.), [255; 3]);
        assert_eq!((image.width(), image.height()), (1600, 967));
    }
}
