//! Maxima over windows of maps `[B, H, W, C]`.

use rayon::prelude::*;

use super::Buffer;
use super::conv2d::Window;
use crate::Result;

/// Windows over maps of given size.
#[derive(Debug, Clone, Copy)]
pub struct MaxPool {
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
    /// Channels, `C`.
    pub channels: usize,
    /// Side of a window, `k`.
    pub kernel: usize,
    /// How the windows move; what is around the map is never the largest.
    pub window: Window,
}

/// Where in its map each maximum was found: the position, for every output.
#[derive(Debug)]
pub struct Argmax(Vec<u32>);

impl MaxPool {
    /// Whether every window has a position within the map.
    pub fn covers(&self) -> bool {
        (0..2).all(|side| (0..self.output[side]).all(|output| self.taps(side, output).next().is_some()))
    }

    /// Where the taps of a side's output lie, in order; those within the map.
    fn taps(&self, side: usize, output: usize) -> impl Iterator<Item = usize> {
        let (Window { stride, padding, dilation }, input) = (self.window, self.input[side]);
        (0..self.kernel)
            .map(move |tap| (output * stride + tap * dilation).wrapping_sub(padding))
            .filter(move |&at| at < input)
    }
}

/// `[B, H', W', C]` from `[B, H, W, C]`, and where the maxima were: the first of equal ones, as in PyTorch.
pub fn forward(pool: &MaxPool, x: &[f32]) -> Result<(Buffer, Argmax)> {
    let MaxPool { input: [height, width], output: [rows, cols], channels, .. } = *pool;
    let (map, line) = (height * width * channels, cols * channels);
    assert!(x.len().is_multiple_of(map));
    let mut y = Buffer::unspecified(x.len() / map * rows * line);
    let mut argmax = vec![0; y.len()];
    let lines = y.par_chunks_mut(line).zip(argmax.par_chunks_mut(line)).enumerate();
    lines.for_each(|(index, (y, argmax))| {
        let (x, row) = (&x[index / rows * map..][..map], index % rows);
        for (col, (y, argmax)) in
            y.chunks_exact_mut(channels).zip(argmax.chunks_exact_mut(channels)).enumerate()
        {
            y.fill(f32::NEG_INFINITY);
            let mut is_first = true;
            for position in pool.taps(0, row).flat_map(|at| pool.taps(1, col).map(move |x| at * width + x)) {
                for (channel, value) in x[position * channels..][..channels].iter().enumerate() {
                    if is_first || *value > y[channel] || value.is_nan() {
                        (y[channel], argmax[channel]) = (*value, position as u32);
                    }
                }
                is_first = false;
            }
        }
    });
    Ok((y, Argmax(argmax)))
}

/// The gradient of the input, `[B, H, W, C]`, from that of the output.
pub fn backward(pool: &MaxPool, grad: &[f32], argmax: &Argmax) -> Result<Buffer> {
    let MaxPool { input: [height, width], output: [rows, cols], channels, .. } = *pool;
    let (map, outputs) = (height * width * channels, rows * cols * channels);
    assert!(grad.len() == argmax.0.len() && grad.len().is_multiple_of(outputs));
    let mut grad_x = Buffer::zeros(grad.len() / outputs * map);
    let images = grad.par_chunks(outputs).zip(argmax.0.par_chunks(outputs));
    grad_x.par_chunks_mut(map).zip(images).for_each(|(grad_x, (grad, argmax))| {
        for (at, (grad, position)) in grad.iter().zip(argmax).enumerate() {
            grad_x[*position as usize * channels + at % channels] += grad;
        }
    });
    Ok(grad_x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_values_gets_the_gradient() {
        // Windows of 2 x 2 that overlap, one channel.
        let pool =
            MaxPool { input: [2, 3], output: [1, 2], channels: 1, kernel: 2, window: Window::default() };
        let (y, argmax) = forward(&pool, &[1.0, 5.0, 2.0, 5.0, 0.0, 3.0]).unwrap();
        assert_eq!((&y[..], &argmax.0[..]), (&[5.0, 5.0][..], &[1, 1][..]));
        assert_eq!(backward(&pool, &[1.0, 10.0], &argmax).unwrap()[..], [0.0, 11.0, 0.0, 0.0, 0.0, 0.0]);
    }
}
