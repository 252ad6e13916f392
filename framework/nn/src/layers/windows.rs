//! Windows of tokens.

use crate::Result;
use crate::backend::tokens::{InverseIndex, gather_rows, scatter_row};
use crate::backend::{Buffer, Values};

/// Windows of `side x side` tokens that tile a grid; where they do not, it is padded at the right and at the bottom (`window_partition`
/// of `detectron2.modeling.backbone.utils`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Rows and columns of tokens.
    pub grid: (usize, usize),
    /// Tokens along each side of a window.
    pub side: usize,
}

impl Windows {
    /// Tokens of a window.
    pub fn area(self) -> usize {
        self.side * self.side
    }

    /// Windows of an image.
    pub fn count(self) -> usize {
        self.grid.0.div_ceil(self.side) * self.grid.1.div_ceil(self.side)
    }

    /// Tokens of the grid.
    pub fn tokens(self) -> usize {
        self.grid.0 * self.grid.1
    }

    /// Whether there is more in the windows of an image than its tokens.
    pub fn pads(self) -> bool {
        self.count() * self.area() > self.tokens()
    }

    /// The tokens of images, `[B, rows * cols, width]`, window by window, `[B * count, area, width]`, with `padding`, `[width]`, beside
    /// the grid.
    pub(super) fn split(
        self,
        x: &Values,
        padding: Option<&Values>,
        width: usize,
        batch: usize,
    ) -> Result<Buffer> {
        gather_rows(x, padding, width, &self.index(batch))
    }

    /// What [`Windows::split`] makes windows of, from these.
    pub(super) fn merge(self, windows: &Values, width: usize, batch: usize) -> Result<Buffer> {
        let places = InverseIndex::new(&self.index(batch), batch * self.tokens());
        gather_rows(windows, None, width, places.all())
    }

    /// The sum of what is beside the grid, `[width]`.
    pub(super) fn sum_padding(self, windows: &Values, width: usize, batch: usize) -> Result<Buffer> {
        let padding = batch * self.tokens();
        scatter_row(windows, width, &InverseIndex::new(&self.index(batch), padding + 1), padding)
    }

    /// The token of the batch at each place of the windows; one past the last beside the grid.
    fn index(self, batch: usize) -> Vec<u32> {
        let (Self { grid: (rows, cols), side }, area) = (self, self.area());
        let across = cols.div_ceil(side);
        let token = |place: usize| {
            let (window, within) = (place / area % self.count(), place % area);
            let (row, col) = (window / across * side + within / side, window % across * side + within % side);
            let image = place / area / self.count();
            let in_grid = row < rows && col < cols;
            (if in_grid { image * self.tokens() + row * cols + col } else { batch * self.tokens() }) as u32
        };
        (0..batch * self.count() * area).map(token).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{download, upload};

    #[test]
    fn windows_lie_one_behind_the_other_and_are_padded_where_they_do_not_tile_the_grid() {
        let windows = Windows { grid: (2, 3), side: 2 };
        assert_eq!((windows.count(), windows.area(), windows.tokens(), windows.pads()), (2, 4, 6, true));
        let x = upload((0..12).map(|token| token as f32).collect()).unwrap();
        let padding = upload(vec![-1.0]).unwrap();
        let split = windows.split(&x, Some(&*padding), 1, 2).unwrap();
        let expected = [0.0, 1.0, 3.0, 4.0, 2.0, -1.0, 5.0, -1.0, 6.0, 7.0, 9.0, 10.0, 8.0, -1.0, 11.0, -1.0];
        assert_eq!(download(&split).unwrap(), expected);
        assert_eq!(download(&windows.merge(&split, 1, 2).unwrap()).unwrap(), download(&x).unwrap());
        assert_eq!(download(&windows.sum_padding(&split, 1, 2).unwrap()).unwrap(), [-4.0]);
        assert!(!Windows { side: 3, grid: (3, 6) }.pads());
    }
}
