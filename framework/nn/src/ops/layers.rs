//! Layers on plain values, with their parameters: what operations of whole blocks are made of.

use std::rc::Rc;

use super::{DepthwiseParams, LinearParams, NormParams};
use crate::backend::elementwise::accumulate;
use crate::backend::layer_norm::{self, Statistics};
use crate::backend::{Buffer, chunks, depthwise, linear};
use crate::{Param, PatchLayout, Result};

/// `y = x W^T + b` on rows.
pub(super) struct Linear {
    weight: Param,
    bias: Option<Param>,
    inputs: usize,
    outputs: usize,
}

impl Linear {
    /// The parameters are to fit, see [`LinearParams::check`].
    pub fn new(params: LinearParams<'_>) -> Self {
        let outputs = params.weight.shape().first().copied().unwrap_or_default();
        Self {
            weight: params.weight.clone(),
            bias: params.bias.cloned(),
            inputs: params.weight.numel() / outputs.max(1),
            outputs,
        }
    }

    /// Whether the backward needs the input.
    pub fn keeps_input(&self) -> bool {
        self.weight.requires_grad()
    }

    /// Rows `[R, I]` to `[R, O]`.
    pub fn forward(&self, x: &[f32]) -> Result<Buffer> {
        let bias = self.bias.as_ref().map(Param::values);
        linear::forward(x, &self.weight.values(), bias.as_deref(), self.inputs, self.outputs)
    }

    /// [`Linear::forward`], added to `residual` if there is one.
    pub fn forward_onto(&self, x: &[f32], residual: Option<&[f32]>) -> Result<Buffer> {
        let Some(residual) = residual else { return self.forward(x) };
        let bias = self.bias.as_ref().map(Param::values);
        linear::forward_residual(
            x,
            &self.weight.values(),
            bias.as_deref(),
            self.inputs,
            self.outputs,
            residual,
        )
    }

    /// [`Linear::forward`] and the GELU of it.
    pub fn forward_gelu(&self, x: &[f32]) -> Result<[Buffer; 2]> {
        let bias = self.bias.as_ref().map(Param::values);
        linear::forward_gelu(x, &self.weight.values(), bias.as_deref(), self.inputs, self.outputs)
    }

    /// Adds the gradients of the parameters.
    pub fn backward_params(&self, grad: &[f32], x: &[f32]) -> Result<()> {
        self.weight.accumulate_grad(|sum, mode| {
            linear::backward_weight(grad, x, self.inputs, self.outputs, sum, mode)
        })?;
        match &self.bias {
            Some(bias) => bias.accumulate_grad(|sum, mode| chunks::sum_rows(grad, sum, mode)),
            None => Ok(()),
        }
    }

    /// The gradient of the input, `[R, I]`.
    pub fn backward_input(&self, grad: &[f32]) -> Result<Buffer> {
        linear::backward_input(grad, &self.weight.values(), self.inputs, self.outputs)
    }

    /// The gradient of what went into the GELU in front of this layer; that becomes the layer's input again.
    pub fn backward_input_gelu(&self, grad: &[f32], hidden: &mut [f32]) -> Result<Buffer> {
        linear::backward_input_gelu(grad, &self.weight.values(), self.inputs, self.outputs, hidden)
    }
}

/// Layer normalisation of rows.
pub(super) struct Norm {
    weight: Param,
    bias: Param,
    eps: f32,
}

impl Norm {
    /// The parameters are to fit, see [`NormParams::check`].
    pub fn new(params: NormParams<'_>) -> Self {
        Self { weight: params.weight.clone(), bias: params.bias.clone(), eps: params.eps }
    }

    /// The normalised rows, and what the backward needs of each.
    pub fn forward(&self, x: &[f32]) -> Result<(Buffer, Statistics)> {
        layer_norm::forward(x, &self.weight.values(), &self.bias.values(), self.eps)
    }

    /// The normalised rows once more.
    pub fn again(&self, x: &[f32], statistics: &Statistics) -> Result<Buffer> {
        layer_norm::again(x, statistics, &self.weight.values(), &self.bias.values())
    }

    /// Adds the gradients of the parameters, and that of the rows to `grad_x`.
    pub fn backward_onto(
        &self,
        grad: &[f32],
        x: &[f32],
        statistics: &Statistics,
        grad_x: &mut [f32],
    ) -> Result<()> {
        let [grad_weight, grad_bias] =
            layer_norm::backward_onto(grad, x, statistics, &self.weight.values(), grad_x)?;
        self.weight.add_grad(&grad_weight)?;
        self.bias.add_grad(&grad_bias)
    }
}

/// Depthwise convolution of patch-sparse features.
pub(super) struct Depthwise {
    weight: Param,
    bias: Option<Param>,
    layout: Rc<PatchLayout>,
    visible: Option<Rc<[f32]>>,
}

impl Depthwise {
    /// The parameters are to fit, see [`DepthwiseParams::check`].
    pub fn new(params: DepthwiseParams<'_>) -> Self {
        Self {
            weight: params.weight.clone(),
            bias: params.bias.cloned(),
            layout: Rc::clone(params.layout),
            visible: params.visible.cloned(),
        }
    }

    /// Whether the backward needs the input.
    pub fn keeps_input(&self) -> bool {
        self.weight.requires_grad()
    }

    /// Features to features of the same shape.
    pub fn forward(&self, x: &[f32]) -> Result<Buffer> {
        let bias = self.bias.as_ref().map(Param::values);
        let visible = self.visible.as_deref();
        depthwise::forward(&self.kernel(), x, &self.weight.values(), bias.as_deref(), visible)
    }

    /// Adds the gradients of the parameters.
    pub fn backward_params(&self, grad: &[f32], x: &[f32]) -> Result<()> {
        self.weight.accumulate_grad(|sum, mode| {
            let grad_weight = depthwise::grad_weight(&self.kernel(), x, grad, self.visible.as_deref())?;
            accumulate(sum, &grad_weight, mode)
        })?;
        match &self.bias {
            Some(bias) => bias.accumulate_grad(|sum, mode| chunks::sum_rows(grad, sum, mode)),
            None => Ok(()),
        }
    }

    /// The gradient of the input.
    pub fn backward_input(&self, grad: &[f32]) -> Result<Buffer> {
        depthwise::grad_input(&self.kernel(), grad, &self.weight.values(), self.visible.as_deref())
    }

    fn kernel(&self) -> depthwise::Depthwise<'_> {
        let kernel = self.weight.shape().last().copied().unwrap_or_default();
        depthwise::Depthwise { layout: &self.layout, channels: self.weight.shape()[0], kernel }
    }
}
