//! `cv::cvtColor` between RGB and HSV of 8 bits (`modules/imgproc/src/color_hsv.simd.hpp`): the hue in steps
//! of two degrees, from 0 to
//! 179. Back from HSV, `OpenCV`'s scalar code rounds and its vector code truncates; this is the former.

/// Number of hues.
pub const HUES: i32 = 180;

/// Fractional bits of a reciprocal.
const SHIFT: u32 = 12;
const HALF: i32 = 1 << (SHIFT - 1);

/// `numerator / n` in fixed point, rounded; 0 for 0.
const fn reciprocals(numerator: i32) -> [i32; 256] {
    let mut table = [0; 256];
    let mut n = 1;
    while n < 256 {
        table[n] = (2 * (numerator << SHIFT) + n as i32) / (2 * n as i32);
        n += 1;
    }
    table
}

const PER_VALUE: [i32; 256] = reciprocals(255);
const PER_RANGE: [i32; 256] = reciprocals(HUES / 6);

/// Hue, saturation and value.
pub fn from_rgb(rgb: [u8; 3]) -> [u8; 3] {
    let [r, g, b] = rgb.map(i32::from);
    let value = r.max(g).max(b);
    let range = value - r.min(g).min(b);
    let saturation = (range * PER_VALUE[value as usize] + HALF) >> SHIFT;
    let sixths = if value == r {
        g - b
    } else if value == g {
        b - r + 2 * range
    } else {
        r - g + 4 * range
    };
    let hue = (sixths * PER_RANGE[range as usize] + HALF) >> SHIFT;
    let hue = if hue < 0 { hue + HUES } else { hue };
    [hue as u8, saturation as u8, value as u8]
}

/// Red, green and blue; a hue beyond the circle is red.
pub fn to_rgb([hue, saturation, value]: [u8; 3]) -> [u8; 3] {
    let (s, v) = (f32::from(saturation) * (1.0 / 255.0), f32::from(value) * (1.0 / 255.0));
    let hue = f32::from(hue) * (6.0 / HUES as f32);
    let (sector, fraction) = if hue < 6.0 { (hue as u8, hue - hue.floor()) } else { (0, 0.0) };
    let p = v * (1.0 - s);
    let q = v * (-s).mul_add(fraction, 1.0);
    let t = v * (-s).mul_add(1.0 - fraction, 1.0);
    let rgb = match sector {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    };
    rgb.map(|channel| (channel * 255.0).round_ties_even() as u8)
}

#[cfg(test)]
mod tests {
    use super::super::super::mmseg_golden::Golden;
    use super::*;

    #[test]
    fn colours_become_hsv_and_back_as_by_opencv_to_the_bit() {
        let golden = Golden::read();
        let colours = golden.rgb("color.grid.bgr");
        let back = golden.rgb("color.grid.bgr_back");
        let (hsv, _) = golden.bytes("color.grid.hsv").as_chunks::<3>();
        assert_eq!(hsv.len(), colours.pixels().len());
        for ((colour, back), hsv) in colours.pixels().zip(back.pixels()).zip(hsv) {
            assert_eq!(from_rgb(colour.0), *hsv, "{colour:?}");
            assert_eq!(to_rgb(*hsv), back.0, "{hsv:?}");
        }
    }

    #[test]
    fn every_colour_comes_back_nearly() {
        for code in (0..1 << 24).step_by(61) {
            let [_, rgb @ ..] = u32::to_be_bytes(code);
            let back = to_rgb(from_rgb(rgb));
            assert!(rgb.iter().zip(back).all(|(a, b)| a.abs_diff(b) <= 5), "{rgb:?} {back:?}");
        }
    }
}
