//! Where the positions of patch-sparse features lie in the image.

use std::sync::Arc;

use super::{Error, Result};

/// The kept patches of a batch on the token grid, and how many positions of a stage each patch holds.
///
/// Features of a stage are `[B, P * cell * cell, C]`: for every kept patch its `cell x cell` positions, row-major within the
/// patch. With all patches kept in raster order this is the dense map, grouped by patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchLayout {
    /// Rows of the token grid.
    pub rows: usize,
    /// Columns of the token grid.
    pub cols: usize,
    /// Positions of this stage along each side of a patch.
    pub cell: usize,
    /// Number of kept patches per image, `P`.
    pub kept: usize,
    /// `[B, P]`: the kept patches as indices into the grid (row-major), in the order in which they are stored.
    pub ids: Arc<[u32]>,
    /// `[B, rows * cols]`: where in `0..P` a patch of the grid is stored, or [`PatchLayout::ABSENT`].
    pub slots: Arc<[u32]>,
}

impl PatchLayout {
    /// The slot of a patch that is not kept.
    pub const ABSENT: u32 = u32::MAX;

    /// A layout from the kept patches of each image, `ids` of shape `[B, kept]`.
    pub fn new(rows: usize, cols: usize, cell: usize, kept: usize, ids: Vec<u32>) -> Result<Self> {
        let grid = rows * cols;
        if kept == 0 || !ids.len().is_multiple_of(kept) {
            return Err(Error::Shape(format!("{} patch ids do not make rows of {kept}", ids.len())));
        }
        let mut slots = vec![Self::ABSENT; ids.len() / kept * grid];
        for (image, ids) in ids.chunks_exact(kept).enumerate() {
            for (slot, &id) in ids.iter().enumerate() {
                let entry = slots[image * grid..][..grid].get_mut(id as usize).ok_or_else(|| {
                    Error::Value(format!("patch {id} is outside the grid of {rows} x {cols}"))
                })?;
                if std::mem::replace(entry, slot as u32) != Self::ABSENT {
                    return Err(Error::Value(format!("patch {id} is kept twice")));
                }
            }
        }
        Ok(Self { rows, cols, cell, kept, ids: ids.into(), slots: slots.into() })
    }

    /// All patches of `batch` images, in raster order.
    pub fn dense(batch: usize, rows: usize, cols: usize, cell: usize) -> Self {
        let ids: Arc<[u32]> = (0..batch).flat_map(|_| 0..(rows * cols) as u32).collect();
        Self { rows, cols, cell, kept: rows * cols, slots: Arc::clone(&ids), ids }
    }

    /// The same patches at another stage.
    #[must_use]
    pub fn with_cell(&self, cell: usize) -> Self {
        Self { cell, ..self.clone() }
    }

    /// Number of images.
    pub fn batch(&self) -> usize {
        self.ids.len() / self.kept
    }

    /// Positions per image, `P * cell * cell`.
    pub fn positions(&self) -> usize {
        self.kept * self.cell * self.cell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_the_inverse_of_ids() {
        let layout = PatchLayout::new(2, 2, 4, 2, vec![3, 0, 1, 2]).unwrap();
        let absent = PatchLayout::ABSENT;
        assert_eq!(*layout.slots, [1, absent, absent, 0, absent, 0, 1, absent]);
        assert_eq!((layout.batch(), layout.positions()), (2, 32));
        assert_eq!(layout.with_cell(1).positions(), 2);
    }

    #[test]
    fn all_patches_in_order_are_the_dense_layout() {
        let ids = (0..6).chain(0..6).collect();
        assert_eq!(PatchLayout::new(2, 3, 1, 6, ids).unwrap(), PatchLayout::dense(2, 2, 3, 1));
    }

    #[test]
    fn bad_ids_are_refused() {
        assert!(matches!(PatchLayout::new(2, 2, 1, 2, vec![0, 4]), Err(Error::Value(_))));
        assert!(matches!(PatchLayout::new(2, 2, 1, 2, vec![1, 1]), Err(Error::Value(_))));
        assert!(matches!(PatchLayout::new(2, 2, 1, 2, vec![0, 1, 2]), Err(Error::Shape(_))));
        assert!(matches!(PatchLayout::new(2, 2, 1, 0, vec![]), Err(Error::Shape(_))));
    }
}
