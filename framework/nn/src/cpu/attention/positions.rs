//! Biases of the scores by the offset of a query from a key in a grid, which are never held for all of them.
//!
//! The offsets of a query from the keys of a row descend. Tables are held from their last row to the first, so that what a query
//! takes of them for a row of keys lies one behind the other.

use std::f32::consts::LOG2_E;

use pulp::{Simd, bytemuck};

use super::heads::Dims;
use super::pack::{self, vectors};
use crate::cpu::tile::{Left, product};
use crate::cpu::{Buffer, Output, reduce};

/// A bias of the scores by the offset of the query from the key, in a grid whose tokens, row by row, are both.
#[derive(Debug)]
pub struct RelativePositions<'a, V: ?Sized = [f32]> {
    /// Rows and columns, `R` and `C`; `N = R C`.
    pub grid: (usize, usize),
    /// Whether a cls token comes before those of the grid, `N = R C + 1`: with a table of biases only.
    pub cls_token: bool,
    /// What the biases follow from.
    pub tables: PositionTables<'a, V>,
}

/// What the biases of [`RelativePositions`] follow from; the first row of a table belongs to the smallest offset.
#[derive(Debug)]
pub enum PositionTables<'a, V: ?Sized = [f32]> {
    /// A bias for every offset and head, `[(2 R - 1)(2 C - 1), H]` (Swin, `BEiT`). With a cls token [`CLS_ROWS`] follow.
    Bias(&'a V),
    /// Products of the query, not scaled, with the embedding of the offset in rows, `[2 R - 1, d]`, and with that of the offset in
    /// columns, `[2 C - 1, d]`, added up (decomposed relative positions: `MViTv2`, `ViTDet`).
    Decomposed([&'a V; 2]),
}

/// The number of offsets on a grid of rows and columns.
pub(super) fn offsets((rows, cols): (usize, usize)) -> usize {
    (2 * rows).saturating_sub(1) * (2 * cols).saturating_sub(1)
}

/// The rows of a table of biases that a cls token has: as the query of any other token, as the key of any other, and as both.
pub const CLS_ROWS: usize = 3;

/// The rows of a table of biases.
pub fn bias_rows(grid: (usize, usize), cls_token: bool) -> usize {
    offsets(grid) + CLS_ROWS * usize::from(cls_token)
}

/// The tables of a call, by head.
pub(super) struct Biases {
    grid: (usize, usize),
    cls_token: bool,
    tables: Tables,
}

enum Tables {
    /// `[H, (2 R - 1)(2 C - 1)]`, behind the rows of a cls token.
    Bias(Vec<f32>),
    /// `[2 R - 1, d]` and `[2 C - 1, d]`, of all heads.
    Decomposed([Vec<f32>; 2]),
}

impl Biases {
    pub fn new(positions: &RelativePositions<'_>, dims: Dims) -> Self {
        let RelativePositions { grid, cls_token, .. } = *positions;
        assert_eq!(grid.0 * grid.1 + usize::from(cls_token), dims.keys, "the grid is that of the tokens");
        let tables = match positions.tables {
            PositionTables::Bias(table) => {
                assert_eq!(table.len(), bias_rows(grid, cls_token) * dims.heads);
                let of_head = |head| table.iter().skip(head).step_by(dims.heads).rev();
                Tables::Bias((0..dims.heads).flat_map(of_head).copied().collect())
            }
            PositionTables::Decomposed(tables) => {
                assert!(!cls_token, "a cls token has no row and no column");
                let sides = [grid.0, grid.1];
                assert_eq!(tables.map(<[f32]>::len), sides.map(|side| (2 * side - 1) * dims.head_dim));
                Tables::Decomposed(tables.map(|table| reversed_rows(table, dims.head_dim)))
            }
        };
        Self { grid, cls_token, tables }
    }

    /// The length of the gradients that one head collects.
    pub fn grad_len(&self) -> usize {
        match &self.tables {
            Tables::Bias(_) => bias_rows(self.grid, self.cls_token),
            Tables::Decomposed(tables) => tables.iter().map(Vec::len).sum(),
        }
    }

    /// The gradients of the tables from those of all heads, one head's behind the other's.
    pub fn grads(&self, by_head: &[f32], dims: Dims) -> Vec<Buffer> {
        let len = self.grad_len();
        match &self.tables {
            Tables::Bias(_) => {
                let row = |row: usize| (0..dims.heads).map(move |head| by_head[head * len + len - 1 - row]);
                vec![(0..len).flat_map(row).collect::<Vec<_>>().into()]
            }
            Tables::Decomposed([rows, _]) => {
                let mut sums = vec![0.0; len];
                by_head.chunks_exact(len).for_each(|grads| reduce::add(&mut sums, grads));
                let (rows, cols) = sums.split_at(rows.len());
                [rows, cols].map(|table| reversed_rows(table, dims.head_dim).into()).into()
            }
        }
    }
}

fn reversed_rows(table: &[f32], width: usize) -> Vec<f32> {
    table.chunks_exact(width).rev().flatten().copied().collect()
}

/// The biases of one head.
pub(super) struct HeadBiases<'a> {
    grid: (usize, usize),
    tables: HeadTables<'a>,
}

enum HeadTables<'a> {
    /// Those of a cls token, if there is one, and those by offset.
    Bias(&'a [f32], &'a [f32]),
    Decomposed([Axis<'a>; 2]),
}

/// The embeddings of the offsets along one side of the grid, and their products with a block of queries.
struct Axis<'a> {
    /// `[2 side - 1, d]`.
    table: &'a [f32],
    /// Packed rows of the transposed table, times `log2(e)`.
    columns: Buffer,
    /// Packed rows, one for each query of a block.
    products: Buffer,
}

impl<'a> Axis<'a> {
    #[inline(always)]
    fn new<S: Simd>(simd: S, table: &'a [f32], dims: Dims) -> Self {
        let offsets = table.len() / dims.head_dim;
        let rows = packed_rows(simd, table, dims.head_dim, 1.0);
        let width = vectors::<S>(offsets) * S::F32_LANES;
        let mut columns = Buffer::unspecified(dims.head_dim * width);
        let packed = S::as_mut_simd_f32s(&mut columns).0;
        pack::transpose(simd, packed, S::as_simd_f32s(&rows).0, dims.head_dim, LOG2_E);
        Self { table, columns, products: Buffer::unspecified(dims.block() * width) }
    }

    /// Multiplies packed queries with the embeddings; returns the products in rows of as many values as the second number says.
    #[inline(always)]
    fn products<S: Simd>(&mut self, simd: S, queries: &[S::f32s], dim: usize) -> (&[f32], usize) {
        let (columns, width) = (S::as_simd_f32s(&self.columns).0, self.columns.len() / dim / S::F32_LANES);
        let count = queries.len() / vectors::<S>(dim);
        let products = &mut S::as_mut_simd_f32s(&mut self.products).0[..count * width];
        let queries = Left::rows::<S>(queries, vectors::<S>(dim));
        product(simd, products, Output::Replace, queries, columns, width);
        (bytemuck::cast_slice(products), width * S::F32_LANES)
    }
}

/// Rows of `dim` values as rows of whole vectors, times `factor`.
#[inline(always)]
fn packed_rows<S: Simd>(simd: S, rows: &[f32], dim: usize, factor: f32) -> Buffer {
    let width = vectors::<S>(dim);
    let mut buffer = Buffer::unspecified(rows.len() / dim * width * S::F32_LANES);
    let packed = S::as_mut_simd_f32s(&mut buffer).0.chunks_exact_mut(width);
    for (packed, row) in packed.zip(rows.chunks_exact(dim)) {
        pack::pack(simd, packed, row, factor);
    }
    buffer
}

/// Where what a query takes of each side begins: of its row and its column, from the last offset on.
fn starts(query: usize, (rows, cols): (usize, usize)) -> (usize, usize) {
    (rows - 1 - query / cols, cols - 1 - query % cols)
}

impl<'a> HeadBiases<'a> {
    #[inline(always)]
    pub fn new<S: Simd>(simd: S, biases: &'a Biases, head: usize, dims: Dims) -> Self {
        let tables = match &biases.tables {
            Tables::Bias(table) => {
                let len = biases.grad_len();
                let (cls, table) = table[head * len..][..len].split_at(len - offsets(biases.grid));
                HeadTables::Bias(cls, table)
            }
            Tables::Decomposed([rows, cols]) => {
                HeadTables::Decomposed([Axis::new(simd, rows, dims), Axis::new(simd, cols, dims)])
            }
        };
        Self { grid: biases.grid, tables }
    }

    /// Writes the biases of packed queries, the first of which is number `from`, times `log2(e)`: packed rows, one value for each key.
    #[inline(always)]
    pub fn write<S: Simd>(
        &mut self,
        simd: S,
        biases: &mut [S::f32s],
        from: usize,
        queries: &[S::f32s],
        dims: Dims,
    ) {
        let (width, (_, cols), grid) = (vectors::<S>(dims.keys), self.grid, self.grid);
        let biases = biases.chunks_exact_mut(width).map(|row| {
            let row: &mut [f32] = bytemuck::cast_slice_mut(row);
            &mut row[..dims.keys]
        });
        match &mut self.tables {
            HeadTables::Bias(cls, table) => {
                for (query, biases) in (from..).zip(biases) {
                    let (query, biases) = match (*cls, query, biases) {
                        ([own, _, as_query], 0, [first, others @ ..]) => {
                            *first = own * LOG2_E;
                            others.fill(as_query * LOG2_E);
                            continue;
                        }
                        ([_, as_key, _], _, [first, others @ ..]) => {
                            *first = as_key * LOG2_E;
                            (query - 1, others)
                        }
                        (_, _, biases) => (query, biases),
                    };
                    let (row, col) = starts(query, grid);
                    let table = table[row * (2 * cols - 1) + col..].chunks(2 * cols - 1);
                    for (biases, table) in biases.chunks_exact_mut(cols).zip(table) {
                        // Not `copy_from_slice`: a call of `memcpy` takes longer than so few values.
                        for (bias, value) in biases.iter_mut().zip(table) {
                            *bias = value * LOG2_E;
                        }
                    }
                }
            }
            HeadTables::Decomposed([by_row, by_col]) => {
                let (by_row, row_width) = by_row.products(simd, queries, dims.head_dim);
                let (by_col, col_width) = by_col.products(simd, queries, dims.head_dim);
                let products = by_row.chunks_exact(row_width).zip(by_col.chunks_exact(col_width));
                for ((query, biases), (by_row, by_col)) in (from..).zip(biases).zip(products) {
                    let (row, col) = starts(query, grid);
                    for (biases, in_row) in biases.chunks_exact_mut(cols).zip(&by_row[row..]) {
                        for (bias, in_col) in biases.iter_mut().zip(&by_col[col..]) {
                            *bias = in_row + in_col;
                        }
                    }
                }
            }
        }
    }
}

/// The gradients of the biases of one head.
pub(super) struct HeadBiasGrads<'a> {
    grid: (usize, usize),
    cls_rows: usize,
    dims: Dims,
    /// What the head collects: as long as [`Biases::grad_len`] says.
    sums: &'a mut [f32],
    /// Of decomposed positions.
    axes: Option<[AxisGrads; 2]>,
}

/// The gradients of an [`Axis`].
struct AxisGrads {
    /// Packed rows of the table, divided by the scale that the gradients of queries are multiplied by in the end.
    rows: Buffer,
    /// Of the products with a block of queries, packed.
    products: Buffer,
    /// Of the table, packed.
    table: Buffer,
}

impl AxisGrads {
    #[inline(always)]
    fn new<S: Simd>(simd: S, axis: &Axis<'_>, dims: Dims) -> Self {
        let rows = packed_rows(simd, axis.table, dims.head_dim, dims.scale().recip());
        let (products, table) = (Buffer::unspecified(axis.products.len()), Buffer::zeros(rows.len()));
        Self { rows, products, table }
    }

    /// Adds what follows from the gradients of the products with packed queries: to those of the queries and of the table.
    #[inline(always)]
    fn backward<S: Simd>(
        &mut self,
        simd: S,
        queries: &[S::f32s],
        grad_queries: &mut [S::f32s],
        head_dim: usize,
    ) {
        let dim = vectors::<S>(head_dim);
        let width = vectors::<S>(self.rows.len() / dim / S::F32_LANES);
        let products = &S::as_simd_f32s(&self.products).0[..queries.len() / dim * width];
        let rows = S::as_simd_f32s(&self.rows).0;
        product(simd, grad_queries, Output::Add, Left::rows::<S>(products, width), rows, dim);
        let table = S::as_mut_simd_f32s(&mut self.table).0;
        product(simd, table, Output::Add, Left::columns::<S>(products, width), queries, dim);
    }
}

impl<'a> HeadBiasGrads<'a> {
    #[inline(always)]
    pub fn new<S: Simd>(simd: S, biases: &HeadBiases<'_>, sums: &'a mut [f32], dims: Dims) -> Self {
        let (cls_rows, axes) = match &biases.tables {
            HeadTables::Bias(cls, _) => (cls.len(), None),
            HeadTables::Decomposed([rows, cols]) => {
                (0, Some([AxisGrads::new(simd, rows, dims), AxisGrads::new(simd, cols, dims)]))
            }
        };
        Self { grid: biases.grid, cls_rows, dims, sums, axes }
    }

    /// Adds what follows from the gradients of the scores of packed queries, from number `from` on, which may be a part of the gradient
    /// of the queries.
    #[inline(always)]
    pub fn add<S: Simd>(
        &mut self,
        simd: S,
        grad_scores: &[S::f32s],
        from: usize,
        queries: &[S::f32s],
        grad_queries: &mut [S::f32s],
    ) {
        let (grid, (_, cols), keys) = (self.grid, self.grid, self.dims.keys);
        let grads = grad_scores.chunks_exact(vectors::<S>(keys)).map(|row| {
            let row: &[f32] = bytemuck::cast_slice(row);
            &row[..keys]
        });
        let Some([by_row, by_col]) = &mut self.axes else {
            let (cls, by_offset) = self.sums.split_at_mut(self.cls_rows);
            for (query, grads) in (from..).zip(grads) {
                let (query, grads) = match (&mut *cls, query, grads) {
                    ([own, _, as_query], 0, [first, others @ ..]) => {
                        *own += first;
                        *as_query += sum(others);
                        continue;
                    }
                    ([_, as_key, _], _, [first, others @ ..]) => {
                        *as_key += first;
                        (query - 1, others)
                    }
                    (_, _, grads) => (query, grads),
                };
                let (row, col) = starts(query, grid);
                let sums = by_offset[row * (2 * cols - 1) + col..].chunks_mut(2 * cols - 1);
                for (sums, grads) in sums.zip(grads.chunks_exact(cols)) {
                    reduce::add(&mut sums[..cols], grads);
                }
            }
            return;
        };
        let width = |axis: &AxisGrads| axis.products.len() / self.dims.block();
        let (row_width, col_width) = (width(by_row), width(by_col));
        by_row.products.fill(0.0);
        by_col.products.fill(0.0);
        let products =
            by_row.products.chunks_exact_mut(row_width).zip(by_col.products.chunks_exact_mut(col_width));
        for ((query, grads), (by_row, by_col)) in (from..).zip(grads).zip(products) {
            let (row, col) = starts(query, grid);
            for (in_row, grads) in by_row[row..].iter_mut().zip(grads.chunks_exact(cols)) {
                *in_row = sum(grads);
                reduce::add(&mut by_col[col..][..cols], grads);
            }
        }
        by_row.backward(simd, queries, grad_queries, self.dims.head_dim);
        by_col.backward(simd, queries, grad_queries, self.dims.head_dim);
    }

    /// Adds what was collected apart from the sums.
    #[inline(always)]
    pub fn finish<S: Simd>(self) {
        let dim = self.dims.head_dim;
        let tables = self.axes.iter().flatten();
        let rows = tables.flat_map(|axis| axis.table.chunks_exact(vectors::<S>(dim) * S::F32_LANES));
        for (sums, row) in self.sums.chunks_exact_mut(dim).zip(rows) {
            reduce::add(sums, row);
        }
    }
}

/// The sum of values, with additions that do not wait for each other.
#[inline(always)]
fn sum(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    chunks.iter().for_each(|chunk| reduce::add(&mut lanes, chunk));
    lanes.iter().chain(rest).sum()
}
