//! What the tokens of an image attend to, for a picture.

use rayon::prelude::*;

use super::{Attention, LayerNorm};
use crate::backend::Buffer;
use crate::error::Result;
use crate::ops::{Layer, LayerBackward, Pass};
use crate::{Context, Shape};

/// Passes on what it gets, and records what the attention of a block makes of it, `softmax(q k^T / sqrt(D / heads))` as `[B, heads, N, N]`,
/// under the name of the attention, `blocks3.0.attn`.
pub(super) struct AttentionMap {
    norm: LayerNorm,
    attention: Attention,
    ctx: Context,
}

impl AttentionMap {
    /// Of this attention behind this norm, if the pass was asked for it ([`Context::recording_attention`]), and every token attends to all,
    /// without a bias.
    pub(super) fn wanted(norm: &LayerNorm, attention: &Attention, ctx: &Context) -> Option<Self> {
        let name = attention.name();
        (ctx.records_attention(name) && attention.is_plain()).then(|| Self {
            norm: norm.clone(),
            attention: attention.clone(),
            ctx: ctx.clone(),
        })
    }
}

impl Layer for AttentionMap {
    fn output_shape(&self, input: Shape) -> Result<Shape> {
        Ok(input)
    }

    fn may_train(&self) -> bool {
        false
    }

    fn forward(self: Box<Self>, x: Buffer, shape: Shape, _: Pass) -> Result<(Buffer, LayerBackward)> {
        let (batch, tokens, channels) = shape.dims3()?;
        let heads = self.attention.heads();
        let (normalized, _) = self.norm.operand_rows(&x)?;
        let qkv = self.attention.projected(&normalized, shape)?;
        let probabilities = probabilities(&qkv, tokens, channels, heads);
        self.ctx.record_values(self.attention.name(), (batch, heads, tokens, tokens), probabilities);
        Ok((x, Box::new(|grad| Ok(Some(grad)))))
    }
}

/// `[B, heads, N, N]` of `[B, N, 3, D]`.
fn probabilities(qkv: &[f32], tokens: usize, channels: usize, heads: usize) -> Vec<f32> {
    let dim = channels / heads;
    let scale = (dim as f32).sqrt().recip();
    let images = qkv.len() / (3 * channels * tokens).max(1);
    let mut all = vec![0.0; images * heads * tokens * tokens];
    all.par_chunks_exact_mut(tokens.max(1)).enumerate().for_each(|(row, probabilities)| {
        let (image, head, query) = (row / tokens / heads, row / tokens % heads, row % tokens);
        let of = |token: usize, part: usize| {
            &qkv[((image * tokens + token) * 3 + part) * channels + head * dim..][..dim]
        };
        let query = of(query, 0);
        for (token, score) in probabilities.iter_mut().enumerate() {
            *score = scale * query.iter().zip(of(token, 1)).map(|(q, k)| q * k).sum::<f32>();
        }
        let largest = probabilities.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        probabilities.iter_mut().for_each(|score| *score = (*score - largest).exp());
        let sum: f32 = probabilities.iter().sum();
        probabilities.iter_mut().for_each(|power| *power /= sum);
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{Branch as _, RelativePositions};
    use crate::ops::Sequential;
    use crate::random::{Purpose, stream};
    use crate::testing::{assert_close, noise, wide};
    use crate::{Scope, Tensor};

    /// The oracle is the attention itself: weighted by its probabilities, the values are what it computes before its projection.
    #[test]
    fn the_probabilities_are_those_that_the_attention_weighs_values_by() {
        let (scope, eval) = (Scope::new(0), || Context::eval(stream(Purpose::Evaluate, &[0])));
        let norm = LayerNorm::new(&scope.child("norm1"), 6, 1e-6);
        let attention = Attention::new(&scope.child("blocks.0.attn"), 6, 2).unwrap();
        let x = noise(1, 2 * 5 * 6);
        let record = |ctx: &Context| {
            let input = Tensor::from_vec(x.clone(), (2, 5, 6), &ctx.tape).unwrap();
            let map = AttentionMap::wanted(&norm, &attention, ctx);
            let y = Sequential::new().then_all(map).forward(input, ctx).unwrap();
            assert_eq!(y.to_vec().unwrap(), x);
            ctx.clone().into_records()
        };
        assert!(record(&eval()).is_empty());
        assert!(record(&eval().recording_attention("blocks.1.attn")).is_empty());
        let records = record(&eval().recording_attention("blocks.0.attn"));
        let [(name, (shape, probabilities))] = &records[..] else { panic!("one record") };
        assert_eq!((name.as_str(), shape.as_slice()), ("blocks.0.attn", &[2, 2, 5, 5][..]));

        let input = crate::backend::upload(x.clone()).unwrap();
        let (normalized, _) = norm.operand_rows(&input).unwrap();
        let qkv = attention.projected(&normalized, (2, 5, 6).into()).unwrap();
        let mut weighted = vec![0.0; x.len()];
        for ((image, head), (query, token)) in
            (0..4).map(|at| (at / 2, at % 2)).flat_map(|of| (0..25).map(move |at| (of, (at / 5, at % 5))))
        {
            let weight = probabilities[((image * 2 + head) * 5 + query) * 5 + token];
            for channel in 0..3 {
                weighted[(image * 5 + query) * 6 + head * 3 + channel] +=
                    weight * qkv[((image * 5 + token) * 3 + 2) * 6 + head * 3 + channel];
            }
        }
        let saved = attention.recompute(&normalized, (2, 5, 6).into()).unwrap();
        assert_close(&crate::backend::download(saved.output()).unwrap(), &wide(&weighted), 1e-6);
    }

    #[test]
    fn attention_with_a_bias_or_windows_has_no_map() {
        let (scope, ctx) = (Scope::new(0), Context::eval(stream(Purpose::Evaluate, &[0])));
        let norm = LayerNorm::new(&scope.child("norm1"), 6, 1e-6);
        let bias = RelativePositions::bias(&scope, 2, (2, 4));
        let attention = Attention::new(&scope.child("attn"), 6, 2).unwrap().with_positions(Some(bias));
        assert!(AttentionMap::wanted(&norm, &attention, &ctx.recording_attention("attn")).is_none());
    }
}
