//! Colours and textures.

use convmae_framework::random::Rng;
use image::{Rgb, RgbImage};
use rand::Rng as _;

/// Red, green and blue in `[0, 1]`.
pub type Colour = [f32; 3];

/// A colour of a hue (in turns), a saturation and a lightness.
pub fn hsl(hue: f32, saturation: f32, lightness: f32) -> Colour {
    let reach = saturation * lightness.min(1.0 - lightness);
    [0.0, 8.0, 4.0].map(|offset| {
        let k = (offset + hue.rem_euclid(1.0) * 12.0) % 12.0;
        lightness - reach * (k - 3.0).min(9.0 - k).clamp(-1.0, 1.0)
    })
}

pub fn mix(from: Colour, to: Colour, share: f32) -> Colour {
    std::array::from_fn(|channel| from[channel] + (to[channel] - from[channel]) * share)
}

/// The share of a pixel that lies on the negative side of an edge at `distance` pixels.
pub fn coverage(distance: f32) -> f32 {
    (0.5 - distance).clamp(0.0, 1.0)
}

#[derive(Debug, Clone, Copy)]
enum Pattern {
    Plain,
    Stripes,
    Checks,
    Dots,
}

/// A pattern of two colours.
#[derive(Debug, Clone, Copy)]
pub struct Texture {
    pattern: Pattern,
    /// Of one repetition, in pixels.
    period: f32,
    direction: [f32; 2],
    phase: [f32; 2],
}

impl Texture {
    /// A random texture, whose period is a random one of `periods`.
    pub fn draw(rng: &mut Rng, periods: [f32; 2]) -> Self {
        let pattern = match rng.random_range(0..4_u32) {
            0 => Pattern::Plain,
            1 => Pattern::Stripes,
            2 => Pattern::Checks,
            _ => Pattern::Dots,
        };
        let angle = rng.random_range(0.0..std::f32::consts::PI);
        Self {
            pattern,
            period: rng.random_range(periods[0]..=periods[1]),
            direction: [angle.cos(), angle.sin()],
            phase: [rng.random(), rng.random()],
        }
    }

    /// The share of the second colour at a point.
    pub fn at(&self, x: f32, y: f32) -> f32 {
        let [cos, sin] = self.direction;
        // In pixels from the middle of a repetition.
        let wrap = |along: f32, phase: f32| {
            let turns = along / self.period + phase;
            (turns - turns.floor() - 0.5) * self.period
        };
        let u = || wrap(x * cos + y * sin, self.phase[0]);
        let v = || wrap(y * cos - x * sin, self.phase[1]);
        let band = |along: f32| coverage(along.abs() - self.period / 4.0);
        match self.pattern {
            Pattern::Plain => 0.0,
            Pattern::Stripes => band(u()),
            Pattern::Checks => {
                let (a, b) = (band(u()), band(v()));
                a + b - 2.0 * a * b
            }
            Pattern::Dots => coverage(u().hypot(v()) - self.period * 0.3),
        }
    }
}

/// A picture in the making.
pub struct Canvas {
    pixels: Vec<Colour>,
    pub height: usize,
    pub width: usize,
}

impl Canvas {
    /// Paints every pixel; `paint` gets the middle of the pixel.
    pub fn new(height: usize, width: usize, mut paint: impl FnMut(f32, f32) -> Colour) -> Self {
        let mut pixels = Vec::with_capacity(height * width);
        for y in 0..height {
            pixels.extend((0..width).map(|x| paint(x as f32 + 0.5, y as f32 + 0.5)));
        }
        Self { pixels, height, width }
    }

    /// Paints over a pixel.
    pub fn blend(&mut self, x: usize, y: usize, colour: Colour, opacity: f32) {
        let pixel = &mut self.pixels[y * self.width + x];
        *pixel = mix(*pixel, colour, opacity);
    }

    pub fn into_image(self) -> RgbImage {
        let mut image = RgbImage::new(self.width as u32, self.height as u32);
        for (target, colour) in image.pixels_mut().zip(&self.pixels) {
            *target = Rgb(colour.map(|value| (value.clamp(0.0, 1.0) * 255.0).round() as u8));
        }
        image
    }
}
