//! Boxes as differences from other boxes (`detectron2.modeling.box_regression.Box2BoxTransform`; Girshick et al. 2014).

/// The difference of two boxes: `[dx, dy, dw, dh]`, the shift of the centre over the size and the logarithm of the change of
/// size, each times a weight.
#[derive(Debug, Clone, Copy)]
pub struct Box2BoxTransform {
    /// Of `dx`, `dy`, `dw` and `dh`.
    pub weights: [f32; 4],
    /// The largest `dw` and `dh` that is applied.
    pub scale_clamp: f32,
}

impl Box2BoxTransform {
    /// With the `scale_clamp` of detectron2: a box gets at most 1000 / 16 times as large.
    pub fn new(weights: [f32; 4]) -> Self {
        Self { weights, scale_clamp: (1000.0_f64 / 16.0).ln() as f32 }
    }

    /// The deltas that turn `source` into `target`. Infinite or NaN if one of them has no width or height.
    pub fn get_deltas(&self, source: [f32; 4], target: [f32; 4]) -> [f32; 4] {
        let [(x, width), (y, height)] = centre_and_size(source);
        let [(target_x, target_width), (target_y, target_height)] = centre_and_size(target);
        let [wx, wy, ww, wh] = self.weights;
        [
            wx * (target_x - x) / width,
            wy * (target_y - y) / height,
            ww * (target_width / width).ln(),
            wh * (target_height / height).ln(),
        ]
    }

    /// The box that the deltas make of `source`.
    pub fn apply_deltas(&self, source: [f32; 4], deltas: [f32; 4]) -> [f32; 4] {
        let [(x, width), (y, height)] = centre_and_size(source);
        let [dx, dy, dw, dh] = std::array::from_fn(|at| deltas[at] / self.weights[at]);
        let [x, y] = [dx * width + x, dy * height + y];
        let [width, height] =
            [(dw, width), (dh, height)].map(|(delta, side)| delta.min(self.scale_clamp).exp() * side);
        [x - 0.5 * width, y - 0.5 * height, x + 0.5 * width, y + 0.5 * height]
    }
}

/// Along x, then along y.
fn centre_and_size([x0, y0, x1, y1]: [f32; 4]) -> [(f32, f32); 2] {
    [(x0, x1), (y0, y1)].map(|(start, end)| (start + 0.5 * (end - start), end - start))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Golden, assert_near};
    use super::*;

    #[test]
    fn deltas_and_boxes_are_those_of_detectron2() {
        let golden = Golden::read("box_ops");
        let (sources, targets) = (golden.boxes("b2b_src"), golden.boxes("b2b_tgt"));
        for (name, weights) in [("b2b_w1", [1.0; 4]), ("b2b_w10", [10.0, 10.0, 5.0, 5.0])] {
            let coder = Box2BoxTransform::new(weights);
            let deltas: Vec<_> = sources
                .iter()
                .zip(&targets)
                .map(|(&source, &target)| coder.get_deltas(source, target))
                .collect();
            let expected = golden.floats(&format!("{name}_get_deltas"));
            assert_near(name, deltas.as_flattened(), &expected, 1e-5);
            // Of one class, and of five.
            for classes in ["", "_5cls"] {
                let deltas = golden.boxes(&format!("{name}_deltas{classes}"));
                let each = deltas.len() / sources.len();
                let apply = |(at, &delta)| coder.apply_deltas(sources[at / each], delta);
                let boxes: Vec<_> = deltas.iter().enumerate().map(apply).collect();
                let expected = golden.floats(&format!("{name}_apply{classes}"));
                assert_near(name, boxes.as_flattened(), &expected, 1e-5);
            }
        }
    }

    #[test]
    fn applying_the_deltas_yields_the_target_and_growth_is_limited() {
        let coder = Box2BoxTransform::new([10.0, 10.0, 5.0, 5.0]);
        let (source, target) = ([10.0, 20.0, 30.0, 80.0], [12.0, 5.0, 25.0, 90.0]);
        let back = coder.apply_deltas(source, coder.get_deltas(source, target));
        assert_near("target", &back, &target, 1e-6);
        let [x0, _, x1, _] = coder.apply_deltas(source, [0.0, 0.0, 1e9, 0.0]);
        assert_near("62.5 times as wide", &[x1 - x0], &[20.0 * 62.5], 1e-5);
    }
}
