//! Depthwise convolution on patch-sparse features.

use std::rc::Rc;

use cudarc::driver::CudaSlice;

use super::buffer::{unspecified, unspecified_in, upload_slice};
use super::card::card;
use super::chunks::chunks;
use super::module::{Grid, Source, arguments, source};
use super::storage::stored;
use super::{Buffer, Values};
use crate::Result;
use crate::error::Error;

pub use crate::cpu::depthwise::Depthwise;

static KERNELS: Source = source!("depthwise");

/// The largest side of a kernel.
const LARGEST: usize = 13;

/// The output, from a weight `[C, K, K]`, a bias `[C]` and what the input is multiplied by, `[B, P * cell * cell]`.
pub fn forward(
    conv: &Depthwise<'_>,
    x: &Values,
    weight: &Values,
    bias: Option<&Values>,
    visible: Option<&[f32]>,
) -> Result<Buffer> {
    let visible = upload_visible(conv, visible)?;
    correlate(conv, x, weight, bias, [visible.as_deref(), None], false)
}

/// The gradient of the input: the gradient of the output correlated with the flipped kernel.
pub fn grad_input(
    conv: &Depthwise<'_>,
    grad: &Values,
    weight: &Values,
    visible: Option<&[f32]>,
) -> Result<Buffer> {
    let visible = upload_visible(conv, visible)?;
    correlate(conv, grad, weight, None, [None, visible.as_deref()], true)
}

/// `factors` are those of the input's rows and those of the output's.
fn correlate(
    conv: &Depthwise<'_>,
    x: &Values,
    weight: &Values,
    bias: Option<&Values>,
    factors: [Option<&Values>; 2],
    is_flipped: bool,
) -> Result<Buffer> {
    let &Depthwise { channels, kernel, .. } = conv;
    let (plan, taps) = (Plan::new(conv)?, kernel * kernel);
    assert_eq!((x.len(), weight.len()), (conv.rows() * channels, channels * taps));
    assert!(bias.is_none_or(|bias| bias.len() == channels));
    let (packed, y) = (unspecified(weight.len())?, unspecified_in(x.storage(), x.len())?);
    let arguments = arguments![packed, *weight, taps, channels, usize::from(is_flipped)];
    KERNELS.launch("pack", Grid::elements(weight.len()), arguments)?;
    let [visible, scale] = factors;
    let Plan { ids, slots, pieces, .. } = &plan;
    let layout = conv.layout;
    let arguments = arguments![
        y,
        *x,
        packed,
        bias,
        visible,
        scale,
        **ids,
        **slots,
        layout.rows,
        layout.cols,
        layout.cell,
        layout.kept,
        kernel,
        channels,
        *pieces
    ];
    KERNELS.launch_stored(x.storage().of(plan.correlate), Grid::rows(*pieces), arguments)?;
    Ok(y)
}

/// The gradient of the weight, `[C, K, K]`.
pub fn grad_weight(
    conv: &Depthwise<'_>,
    x: &Values,
    grad: &Values,
    visible: Option<&[f32]>,
) -> Result<Buffer> {
    let &Depthwise { channels, kernel, .. } = conv;
    let (plan, taps) = (Plan::new(conv)?, kernel * kernel);
    assert_eq!([x.len(), grad.len()], [conv.rows() * channels; 2]);
    assert_eq!(x.storage(), grad.storage());
    let Plan { ids, slots, pieces, .. } = &plan;
    let (visible, layout, chunks) =
        (upload_visible(conv, visible)?, conv.layout, chunks(*pieces, channels * kernel));
    let partial = unspecified(chunks * taps * channels)?;
    let arguments = arguments![
        partial,
        *x,
        *grad,
        visible.as_deref(),
        **ids,
        **slots,
        layout.rows,
        layout.cols,
        layout.cell,
        layout.kept,
        kernel,
        channels,
        *pieces
    ];
    let grid = Grid::columns(channels, chunks, kernel);
    KERNELS.launch_stored(x.storage().of(plan.grad_weight), grid, arguments)?;
    let weight = unspecified(taps * channels)?;
    let arguments = arguments![weight, partial, chunks, taps, channels];
    KERNELS.launch("finish_weight", Grid::elements(weight.len()), arguments)?;
    Ok(weight)
}

fn upload_visible(conv: &Depthwise<'_>, visible: Option<&[f32]>) -> Result<Option<Buffer>> {
    assert!(visible.is_none_or(|visible| visible.len() == conv.rows()));
    visible.map(upload_slice).transpose()
}

/// The kernels for a convolution, and what they read of its layout.
struct Plan {
    ids: Rc<CudaSlice<u32>>,
    slots: Rc<CudaSlice<u32>>,
    /// Pieces of lines, one for a warp.
    pieces: usize,
    /// For each way to store values.
    correlate: [&'static str; 2],
    grad_weight: [&'static str; 2],
}

impl Plan {
    fn new(conv: &Depthwise<'_>) -> Result<Self> {
        let &Depthwise { layout, kernel, .. } = conv;
        if kernel > LARGEST {
            return Err(Error::Value(format!(
                "a depthwise convolution on a card has a kernel of at most {LARGEST} x {LARGEST}, not {kernel} x {kernel}"
            )));
        }
        let (piece, correlate, grad_weight) = match (kernel, layout.cell % 4) {
            (5, 0) => (4, stored!("correlate_5_4"), stored!("grad_weight_5_4")),
            (5, 2) => (2, stored!("correlate_5_2"), stored!("grad_weight_5_2")),
            (5, _) => (1, stored!("correlate_5_1"), stored!("grad_weight_5_1")),
            (_, 0) => (4, stored!("correlate_any_4"), stored!("grad_weight_any_4")),
            (_, 2) => (2, stored!("correlate_any_2"), stored!("grad_weight_any_2")),
            (_, _) => (1, stored!("correlate_any_1"), stored!("grad_weight_any_1")),
        };
        let lists = &card()?.lists;
        let (ids, slots) = (lists.uploaded(&layout.ids)?, lists.uploaded(&layout.slots)?);
        Ok(Self { ids, slots, pieces: conv.rows() / piece, correlate, grad_weight })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, on_card};
    use super::*;
    use crate::PatchLayout;
    use crate::cpu::depthwise as cpu;
    use crate::testing::noise;

    #[test]
    fn outputs_and_gradients_are_those_of_the_cpu() {
        let case = Case::relative(1e-5, "added up in another order");
        for (cell, channels, kernel) in
            [(1, 1, 1), (1, 24, 3), (2, 40, 5), (3, 7, 5), (4, 33, 5), (4, 16, 9), (6, 5, 7), (2, 3, 13)]
        {
            // Dense, and with few patches in any order.
            let sparse = PatchLayout::new(3, 4, cell, 5, vec![11, 0, 5, 4, 9, 6, 7, 2, 3, 1]).unwrap();
            for layout in [PatchLayout::dense(2, 3, 4, cell), sparse] {
                let conv = Depthwise { layout: &layout, channels, kernel };
                let (x, grad) = (noise(1, conv.rows() * channels), noise(2, conv.rows() * channels));
                let (weight, bias) = (noise(3, channels * kernel * kernel), noise(4, channels));
                let visible: Vec<f32> = (0..conv.rows()).map(|row| [1.0, 0.0, 0.5][row % 3]).collect();
                let (card_x, card_grad, card_weight) = (on_card(&x), on_card(&grad), on_card(&weight));
                let card_bias = on_card(&bias);
                for (bias, card_bias, visible) in
                    [(None, None, None), (Some(&*bias), Some(&*card_bias), Some(&*visible))]
                {
                    let y = forward(&conv, &card_x, &card_weight, card_bias, visible).unwrap();
                    case.same(&y, &cpu::forward(&conv, &x, &weight, bias, visible).unwrap());
                    let grad_x = grad_input(&conv, &card_grad, &card_weight, visible).unwrap();
                    case.same(&grad_x, &cpu::grad_input(&conv, &grad, &weight, visible).unwrap());
                    let grad_weight = grad_weight(&conv, &card_x, &card_grad, visible).unwrap();
                    case.same(&grad_weight, &cpu::grad_weight(&conv, &x, &grad, visible).unwrap());
                }
            }
        }
    }

    #[test]
    fn larger_kernels_are_refused() {
        let layout = PatchLayout::dense(1, 1, 1, 1);
        let conv = Depthwise { layout: &layout, channels: 1, kernel: 15 };
        let x = on_card(&[0.0]);
        let message = forward(&conv, &x, &on_card(&[0.0; 225]), None, None).unwrap_err().to_string();
        assert!(message.contains("at most 13 x 13, not 15 x 15"), "{message}");
    }
}
