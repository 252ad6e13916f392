//! First layers for images of another number of channels.

use std::ops::Range;

/// A convolution of images, `[O, I, k, k]`, for other channels than it was trained on, as timm's
/// `adapt_input_conv`: for one channel the weights are summed; for more they are repeated, in the order of
/// the channels, and scaled so that the sum stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelAdaptation {
    outputs: usize,
    from: usize,
    to: usize,
    taps: usize,
}

impl ChannelAdaptation {
    /// That of a tensor of a file to a parameter, if both are the same convolution but for the channels, and
    /// the parameter takes images of a number of channels. Colours, or a single channel, are repeated; what
    /// other channels mean for others nobody knows.
    pub fn of(file: &[usize], param: &[usize], image_channels: usize) -> Option<Self> {
        let (&[outputs, from, height, width], &[own_outputs, to, own_height, own_width]) = (file, param)
        else {
            return None;
        };
        let is_same = (outputs, height, width) == (own_outputs, own_height, own_width);
        let is_known = to == 1 || [1, 3].contains(&from);
        (is_same && is_known && from != to && to == image_channels).then_some(Self {
            outputs,
            from,
            to,
            taps: height * width,
        })
    }

    /// The weights for the other channels.
    pub fn apply(&self, values: &[f32]) -> Vec<f32> {
        let Self { outputs, from, to, taps } = *self;
        let kernel = |output: usize, channel: usize| -> Range<usize> {
            let start = (output * from + channel) * taps;
            start..start + taps
        };
        if to == 1 {
            let sum = |output: usize, tap: usize| {
                (0..from).map(|channel| values[kernel(output, channel)][tap]).sum()
            };
            return (0..outputs).flat_map(|output| (0..taps).map(move |tap| sum(output, tap))).collect();
        }
        let scale = from as f32 / to as f32;
        let channels = (0..outputs).flat_map(|output| (0..to).map(move |channel| (output, channel % from)));
        let repeated = channels.flat_map(|(output, channel)| &values[kernel(output, channel)]);
        repeated.map(|value| value * scale).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn adapted(from: usize, to: usize, values: &[f32]) -> Vec<f32> {
        ChannelAdaptation::of(&[2, from, 1, 2], &[2, to, 1, 2], to).unwrap().apply(values)
    }

    /// As `timm.models.adapt_input_conv(in_chans, weight)` of `torch.arange(12.).reshape(2, 3, 1, 2)`.
    #[test]
    fn weights_are_summed_or_repeated_as_by_timm() {
        let rgb: Vec<f32> = (0..12).map(|value| value as f32).collect();
        assert_eq!(adapted(3, 1, &rgb), [6.0, 9.0, 24.0, 27.0]);
        let four = adapted(3, 4, &rgb);
        assert_eq!(four[..8], [0.0, 0.75, 1.5, 2.25, 3.0, 3.75, 0.0, 0.75]);
        let twelve = adapted(3, 12, &rgb);
        assert_eq!(twelve[..8], [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 0.0, 0.25]);
        assert_eq!(twelve.len(), 48);
    }

    #[test]
    fn a_grey_first_layer_is_repeated_and_keeps_its_sum() {
        assert_eq!(adapted(1, 3, &[3.0, 6.0, 9.0, 12.0])[..6], [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
    }

    #[test]
    fn other_layers_are_left_alone() {
        let of = |file: &[usize], param: &[usize]| ChannelAdaptation::of(file, param, 4);
        assert!(of(&[8, 3, 4, 4], &[8, 4, 4, 4]).is_some());
        assert!(of(&[8, 3, 4, 4], &[8, 5, 4, 4]).is_none(), "not of images");
        assert!(of(&[8, 3, 4, 4], &[8, 4, 2, 2]).is_none(), "another kernel");
        assert!(of(&[8, 12, 4, 4], &[8, 4, 4, 4]).is_none(), "which of the twelve?");
        assert!(of(&[8, 4, 4, 4], &[8, 4, 4, 4]).is_none() && of(&[8, 3], &[8, 4]).is_none());
    }
}
