//! What lies around a square of a patch.

use std::ops::Range;

use crate::PatchLayout;

/// The row of the features at every position of all images, each with a border that the kernel reaches into.
pub struct Map {
    rows: Vec<u32>,
    width: usize,
    /// For each patch the place in `rows` that lies a border's height above and a border's width left of its first position.
    corners: Vec<usize>,
}

/// Where nothing is stored: outside of an image or in a patch that is not kept.
const ABSENT: u32 = u32::MAX;

impl Map {
    /// The map of a layout, with borders above and below of `border.0` positions, left and right of `border.1`.
    pub fn new(layout: &PatchLayout, border: (usize, usize)) -> Self {
        let PatchLayout { rows, cols, cell, kept, .. } = *layout;
        let (height, width) = (rows * cell + 2 * border.0, cols * cell + 2 * border.1);
        let corner = |(patch, &id): (usize, &u32)| {
            let (row, col) = (id as usize / cols * cell, id as usize % cols * cell);
            (patch / kept * height + row) * width + col
        };
        let corners: Vec<usize> = layout.ids.iter().enumerate().map(corner).collect();
        let mut map = vec![ABSENT; layout.batch() * height * width];
        let mut next = 0..;
        for corner in &corners {
            for line in 0..cell {
                let start = corner + (border.0 + line) * width + border.1;
                for (place, row) in map[start..start + cell].iter_mut().zip(&mut next) {
                    *place = row;
                }
            }
        }
        Self { rows: map, width, corners }
    }

    /// The `(line, column)` of the map counted from a patch's corner.
    pub fn row(&self, patch: usize, line: usize, column: usize) -> Option<u32> {
        let row = self.rows[self.corners[patch] + line * self.width + column];
        (row != ABSENT).then_some(row)
    }
}

/// A column of squares, the neighbors of one square.
///
/// Of two columns of positions, the `i`th of the square and the `j`th of its neighbor, `j - i + side - 1` is the shift: which column
/// of the kernel joins them depends on nothing else.
pub struct Column {
    /// The shifts for which the kernel has a tap.
    pub shifts: Range<usize>,
    /// The column of the kernel that belongs to the first of them.
    pub tap: usize,
    /// For each of the `side + K - 1` lines that the kernel reads the row of the features of the line's first position.
    pub lines: Vec<Option<u32>>,
    /// The lines that are present and their rows.
    pub present: Vec<(usize, usize)>,
}

/// The squares that the kernel reads for the outputs of one square of `SIDE x SIDE` positions.
pub struct Surroundings<const SIDE: usize> {
    pub columns: Vec<Column>,
    lines: usize,
}

impl<const SIDE: usize> Surroundings<SIDE> {
    /// Nothing located yet, for a `kernel x kernel` kernel.
    pub fn new(kernel: usize) -> Self {
        let (reach, side) = (Self::reach(kernel) as isize, SIDE as isize);
        let column = |neighbor: isize| {
            // The tap of shift zero, if there is one.
            let first = neighbor * side + (kernel / 2) as isize - (side - 1);
            let start = (-first).max(0);
            let end = (kernel as isize - first).min(2 * side - 1);
            let (shifts, tap) = (start as usize..end as usize, (first + start) as usize);
            Column { shifts, tap, lines: Vec::new(), present: Vec::new() }
        };
        Self { columns: (-reach..=reach).map(column).collect(), lines: SIDE + kernel - 1 }
    }

    /// The border that [`Self::locate`] needs of a map.
    pub fn border(kernel: usize) -> (usize, usize) {
        (kernel / 2, Self::reach(kernel) * SIDE)
    }

    /// Finds the surroundings of the square at `(row, col)` of a patch.
    pub fn locate(&mut self, map: &Map, patch: usize, (row, col): (usize, usize)) {
        for (index, column) in self.columns.iter_mut().enumerate() {
            column.lines.clear();
            column.lines.extend((0..self.lines).map(|line| map.row(patch, row + line, col + index * SIDE)));
            column.present.clear();
            let present = column.lines.iter().enumerate();
            column.present.extend(present.filter_map(|(line, row)| row.map(|row| (line, row as usize))));
        }
    }

    /// Squares on either side that the kernel reaches.
    fn reach(kernel: usize) -> usize {
        (kernel / 2).div_ceil(SIDE)
    }
}
