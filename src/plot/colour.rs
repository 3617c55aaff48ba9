//! Colours of values: the maps of matplotlib by their names.

/// Red, green, blue.
pub type Rgb = [u8; 3];

/// Black.
pub const BLACK: Rgb = [0; 3];
/// White.
pub const WHITE: Rgb = [255; 3];

/// Colours of lines, one after the other: tab10.
pub const LINES: [Rgb; 10] = [
    [0x1f, 0x77, 0xb4],
    [0xff, 0x7f, 0x0e],
    [0x2c, 0xa0, 0x2c],
    [0xd6, 0x27, 0x28],
    [0x94, 0x67, 0xbd],
    [0x8c, 0x56, 0x4b],
    [0xe3, 0x77, 0xc2],
    [0x7f, 0x7f, 0x7f],
    [0xbc, 0xbd, 0x22],
    [0x17, 0xbe, 0xcf],
];

fn byte(x: f32) -> u8 {
    (255. * x.clamp(0., 1.)).round() as u8
}

/// Blue for 0, white for 0.5, red for 1: bwr.
pub fn blue_white_red(x: f32) -> Rgb {
    let x = x.clamp(0., 1.);
    [byte(2. * x), byte(1. - (2. * x - 1.).abs()), byte(2. - 2. * x)]
}

/// Red for 0, over green to violet for 1: rainbow_r.
pub fn rainbow(x: f32) -> Rgb {
    use std::f32::consts::{FRAC_PI_2, PI};
    let x = 1. - x.clamp(0., 1.);
    [byte((2. * x - 0.5).abs()), byte((PI * x).sin()), byte((FRAC_PI_2 * x).cos())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_have_matplotlibs_ends() {
        assert_eq!([0., 0.5, 1.].map(blue_white_red), [[0, 0, 255], WHITE, [255, 0, 0]]);
        assert_eq!([blue_white_red(-1.), blue_white_red(9.)], [[0, 0, 255], [255, 0, 0]]);
        assert_eq!([0., 1.].map(rainbow), [[255, 0, 0], [128, 0, 255]]);
        assert_eq!(rainbow(0.5), [128, 255, 180]);
    }
}
