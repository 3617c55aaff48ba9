//! Lines, areas and text on a white picture.
use ab_glyph::{Font, FontRef, PxScale, ScaleFont};
use tiny_skia::{
    Color, FillRule, Paint, PathBuilder, Pixmap, PremultipliedColorU8, Rect, Stroke, StrokeDash, Transform,
};

use super::colour::{BLACK, Rgb, WHITE};

/// Dots of an inch.
const DPI: f32 = 200.;

/// Where a text is in regard to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// The point is in the middle of its upper edge.
    Top,
    /// Of its lower edge.
    Bottom,
    /// Of its left edge.
    Left,
    /// Of its right edge.
    Right,
    /// Upwards, the point in the middle of its right side.
    Upwards,
}

/// A picture; positions and lengths are in points, a 72nd of an inch, from the upper left corner.
pub struct Canvas {
    pixels: Pixmap,
    font: FontRef<'static>,
}

/// Pixels of a length in points.
pub fn pixels(points: f32) -> f32 {
    points * DPI / 72.
}

fn paint([r, g, b]: Rgb) -> Paint<'static> {
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    paint.set_color(Color::from_rgba8(r, g, b, 255));
    paint
}

impl Canvas {
    /// A white picture. None if it has no size.
    pub fn new(width: f32, height: f32) -> Option<Self> {
        let mut image = Pixmap::new(pixels(width).ceil() as u32, pixels(height).ceil() as u32)?;
        let [r, g, b] = WHITE;
        image.fill(Color::from_rgba8(r, g, b, 255));
        // The MIT-licensed font that comes with the crate; it is known to be whole.
        let font = FontRef::try_from_slice(epaint_default_fonts::HACK_REGULAR).ok()?;
        Some(Self { pixels: image, font })
    }

    /// A line through points.
    pub fn line(&mut self, points: &[[f32; 2]], width: f32, colour: Rgb) {
        self.stroke(points, width, colour, None);
    }

    /// A line of dashes.
    pub fn dashes(&mut self, points: &[[f32; 2]], width: f32, colour: Rgb) {
        self.stroke(points, width, colour, StrokeDash::new(vec![pixels(4.), pixels(3.)], 0.));
    }

    /// A disc that lets through what is below it; `opacity` is 0-1.
    pub fn disc(&mut self, point: [f32; 2], radius: f32, [r, g, b]: Rgb, opacity: f32) {
        let [x, y] = point.map(pixels);
        let Some(path) = PathBuilder::from_circle(x, y, pixels(radius)) else { return };
        let mut paint = Paint { anti_alias: true, ..Paint::default() };
        paint.set_color(Color::from_rgba8(r, g, b, (255. * opacity.clamp(0., 1.)).round() as u8));
        self.pixels.fill_path(&path, &paint, FillRule::Winding, Transform::identity(), None);
    }

    /// A rectangle in one colour.
    pub fn area(&mut self, corner: [f32; 2], size: [f32; 2], colour: Rgb) {
        let ([x, y], [width, height]) = (corner.map(pixels), size.map(pixels));
        if let Some(area) = Rect::from_xywh(x, y, width, height) {
            self.pixels.fill_rect(area, &paint(colour), Transform::identity(), None);
        }
    }

    fn stroke(&mut self, points: &[[f32; 2]], width: f32, colour: Rgb, dash: Option<StrokeDash>) {
        let mut path = PathBuilder::new();
        for (i, p) in points.iter().enumerate() {
            let [x, y] = p.map(pixels);
            if i == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
        }
        let stroke = Stroke { width: pixels(width), dash, ..Stroke::default() };
        if let Some(path) = path.finish() {
            self.pixels.stroke_path(&path, &paint(colour), &stroke, Transform::identity(), None);
        }
    }

    /// Colours each pixel of a rectangle by its place there, 0-1 from the upper left corner; none stays as it is.
    pub fn shade(&mut self, [x, y]: [f32; 2], [width, height]: [f32; 2], colour: impl Fn(f32, f32) -> Option<Rgb>) {
        let [left, top, right, bottom] = [x, y, x + width, y + height].map(|v| pixels(v).round() as u32);
        let stride = self.pixels.width();
        let (w, h) = ((right - left) as f32, (bottom - top) as f32);
        for (row, column) in
            (top..bottom.min(self.pixels.height())).flat_map(|r| (left..right.min(stride)).map(move |c| (r, c)))
        {
            let at = [(column - left) as f32 + 0.5, (row - top) as f32 + 0.5];
            let rgb = colour(at[0] / w, at[1] / h);
            if let Some(pixel) = rgb.and_then(|[r, g, b]| PremultipliedColorU8::from_rgba(r, g, b, 255)) {
                self.pixels.pixels_mut()[(row * stride + column) as usize] = pixel;
            }
        }
    }

    /// Width of a text of `size` points.
    pub fn width(&self, text: &str, size: f32) -> f32 {
        let font = self.font.as_scaled(PxScale::from(pixels(size)));
        let width: f32 = text.chars().map(|c| font.h_advance(font.glyph_id(c))).sum();
        width * 72. / DPI
    }

    /// A black text of `size` points at a point.
    pub fn text(&mut self, text: &str, point: [f32; 2], size: f32, anchor: Anchor) {
        self.text_in(BLACK, text, point, size, anchor);
    }

    /// The same in a colour.
    pub fn text_in(&mut self, colour: Rgb, text: &str, point: [f32; 2], size: f32, anchor: Anchor) {
        let scale = PxScale::from(pixels(size));
        let font = self.font.clone();
        let scaled = font.as_scaled(scale);
        let width = pixels(self.width(text, size));
        let (ascent, height) = (scaled.ascent(), scaled.ascent() - scaled.descent());
        let [x, y] = point.map(pixels);
        let (left, top) = match anchor {
            Anchor::Top => (-width / 2., 0.),
            Anchor::Bottom => (-width / 2., -height),
            Anchor::Left => (0., -height / 2.),
            Anchor::Right => (-width, -height / 2.),
            Anchor::Upwards => (-width / 2., -height),
        };
        let mut advance = 0.;
        for c in text.chars() {
            let id = scaled.glyph_id(c);
            let at = ab_glyph::point(left + advance, top + ascent);
            advance += scaled.h_advance(id);
            let Some(outline) = font.outline_glyph(id.with_scale_and_position(scale, at)) else { continue };
            let corner = outline.px_bounds().min;
            outline.draw(|u, v, coverage| {
                let (u, v) = (corner.x + u as f32, corner.y + v as f32);
                let (u, v) = if anchor == Anchor::Upwards { (v, -u) } else { (u, v) };
                self.ink(x + u, y + v, colour, coverage);
            });
        }
    }

    /// Gives a pixel a colour by a part.
    fn ink(&mut self, x: f32, y: f32, colour: Rgb, part: f32) {
        let (x, y, stride) = (x.round(), y.round(), self.pixels.width());
        if x < 0. || y < 0. || x >= stride as f32 || y >= self.pixels.height() as f32 {
            return;
        }
        let pixel = &mut self.pixels.pixels_mut()[(y as u32 * stride + x as u32) as usize];
        let part = part.clamp(0., 1.);
        let mixed = |old: u8, new: u8| (f32::from(old) * (1. - part) + f32::from(new) * part).round() as u8;
        let [r, g, b] = colour;
        let (r, g, b) = (mixed(pixel.red(), r), mixed(pixel.green(), g), mixed(pixel.blue(), b));
        if let Some(new) = PremultipliedColorU8::from_rgba(r, g, b, 255) {
            *pixel = new;
        }
    }

    /// The picture as a PNG file; empty if it is too large for one.
    pub fn png(&self) -> Vec<u8> {
        self.pixels.encode_png().unwrap_or_default()
    }
}
