//! Hue: to HSV of 8 bits a channel and back, as `Image.convert`.

use image::RgbImage;

/// Turns the hue by `turn` of the circle (torchvision's `adjust_hue`). Colours come back rounded even if
/// `turn` is 0.
pub fn shift_hue(image: &mut RgbImage, turn: f64) {
    // Around the circle, as the bytes of torchvision.
    let shift = (turn * 255.0) as i32 as u8;
    for pixel in image.pixels_mut() {
        let [hue, saturation, value] = to_hsv(pixel.0);
        pixel.0 = from_hsv([hue.wrapping_add(shift), saturation, value]);
    }
}

/// The mix of single and double precision is Pillow's.
fn to_hsv([red, green, blue]: [u8; 3]) -> [u8; 3] {
    let (max, min) = (red.max(green).max(blue), red.min(green).min(blue));
    if max == min {
        return [0, 0, max];
    }
    let range = f32::from(max - min);
    let [r, g, b] = [red, green, blue].map(|value| f32::from(max - value) / range);
    let sixths = if red == max {
        b - g
    } else if green == max {
        (2.0 + f64::from(r) - f64::from(b)) as f32
    } else {
        (4.0 + f64::from(g) - f64::from(r)) as f32
    };
    // From 5/6 on and less than 2: this is `fmod(.., 1.0)`.
    let turns = f64::from(sixths) / 6.0 + 1.0;
    let hue = (if turns < 1.0 { turns } else { turns - 1.0 }) as f32;
    let saturation = range / f32::from(max);
    [(f64::from(hue) * 255.0) as u8, (f64::from(saturation) * 255.0) as u8, max]
}

fn from_hsv([hue, saturation, value]: [u8; 3]) -> [u8; 3] {
    if saturation == 0 {
        return [value; 3];
    }
    let sixths = f64::from(hue) * 6.0 / 255.0;
    let sector = sixths as u8;
    let fraction = (sixths - f64::from(sector)) as f32;
    let saturation = (f64::from(saturation) / 255.0) as f32;
    let part = |taken: f64| (f64::from(value) * (1.0 - taken) + 0.5) as u8;
    let low = part(f64::from(saturation));
    let falling = part(f64::from(saturation * fraction));
    let rising = part(f64::from(saturation) * (1.0 - f64::from(fraction)));
    match sector % 6 {
        0 => [value, rising, low],
        1 => [falling, value, low],
        2 => [low, value, rising],
        3 => [low, falling, value],
        4 => [rising, low, value],
        _ => [value, low, falling],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primary_colours_have_their_hue() {
        assert_eq!(to_hsv([255, 0, 0]), [0, 255, 255]);
        assert_eq!(to_hsv([0, 200, 0]), [85, 255, 200]);
        assert_eq!(to_hsv([0, 0, 100]), [170, 255, 100]);
        assert_eq!(to_hsv([9, 9, 9]), [0, 0, 9]);
    }

    #[test]
    fn they_come_back() {
        for color in [[255, 0, 0], [0, 200, 0], [0, 0, 100], [9, 9, 9]] {
            assert_eq!(from_hsv(to_hsv(color)), color);
        }
    }
}
