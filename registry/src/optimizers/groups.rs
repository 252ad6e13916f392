//! Parameter groups: weight decay, and layer-wise learning rate decay.

use convmae_framework::component::{ParameterGroup, Problem};
use convmae_framework::nn::Param;

/// What sorts trainable parameters into groups.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grouping<'a> {
    /// Weight decay of the parameters that are decayed.
    pub weight_decay: f64,
    /// Names of parameters that are not, besides those with one axis and biases.
    pub no_weight_decay: &'a [String],
    /// The learning rate of a layer, as a multiple of that of the layer behind it.
    pub layer_decay: Option<f64>,
}

/// The groups in order of first occurrence, and every trainable parameter with the index of its group.
pub(super) type Grouped = (Vec<ParameterGroup>, Vec<(Param, usize)>);

impl Grouping<'_> {
    /// Two groups: what is decayed, and what is not.
    pub fn by_decay(weight_decay: f64) -> Self {
        Self { weight_decay, no_weight_decay: &[], layer_decay: None }
    }

    /// Sorts the trainable ones of `params` (`param_groups_lrd` of the official `util/lr_decay.py`).
    ///
    /// # Errors
    /// A name in `no_weight_decay` that no parameter has; a `layer_decay` where no parameter has a layer.
    pub fn sort(&self, params: &[Param]) -> Result<Grouped, Problem> {
        self.check_names(params)?;
        let last = params.iter().filter_map(Param::layer).max();
        let layers = match (self.layer_decay, last) {
            (Some(decay), Some(last)) => Some((decay, last + 1)),
            (None, _) => None,
            (Some(_), None) => {
                let problem = Problem::new("layer_decay", "no parameter of this model belongs to a layer");
                return Err(
                    problem.help("the backbones `ConvViT` and `ViT` have layers; leave it out for others")
                );
            }
        };
        let mut groups: Vec<ParameterGroup> = Vec::new();
        let trainable = params.iter().filter(|param| param.requires_grad());
        let members = trainable.map(|param| {
            let group = self.group(param, layers);
            let known = groups.iter().position(|known| known.name == group.name);
            let index = known.unwrap_or_else(|| {
                groups.push(group);
                groups.len() - 1
            });
            groups[index].tensors += 1;
            groups[index].parameters += param.numel() as u64;
            (param.clone(), index)
        });
        let members = members.collect();
        Ok((groups, members))
    }

    /// The group of a parameter, empty. `layers` has the layers' decay and the layer of what is behind them
    /// all.
    fn group(&self, param: &Param, layers: Option<(f64, usize)>) -> ParameterGroup {
        let decayed = is_decayed(param) && !self.no_weight_decay.iter().any(|name| name == param.name());
        let decay_name = if decayed { "decay" } else { "no_decay" };
        let (name, lr_scale) = match layers {
            None => (decay_name.to_owned(), 1.0),
            Some((decay, head)) => {
                let layer = param.layer().unwrap_or(head);
                (format!("layer_{layer}_{decay_name}"), decay.powi((head - layer) as i32))
            }
        };
        let weight_decay = if decayed { self.weight_decay } else { 0.0 };
        ParameterGroup { name, tensors: 0, parameters: 0, lr_scale, weight_decay }
    }

    fn check_names(&self, params: &[Param]) -> Result<(), Problem> {
        let unknown = |name: &String| params.iter().all(|param| param.name() != name);
        let Some(position) = self.no_weight_decay.iter().position(unknown) else { return Ok(()) };
        let name = &self.no_weight_decay[position];
        let similarity = |param: &Param| strsim::jaro_winkler(name, param.name());
        let nearest = params.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
        let help = match nearest.filter(|param| similarity(param) > 0.8) {
            Some(param) => format!("did you mean `{}`?", param.name()),
            None => "write parameters as checkpoints name them, such as `pos_embed`".to_owned(),
        };
        let key = format!("no_weight_decay.{position}");
        Err(Problem::new(key, format!("the model has no parameter `{name}`")).help(help))
    }
}

/// timm 0.3.2 `add_weight_decay`: no decay if and only if the parameter has one axis or is a bias.
fn is_decayed(param: &Param) -> bool {
    param.shape().len() > 1 && param.name().rsplit('.').next() != Some("bias")
}

#[cfg(test)]
mod tests {
    use convmae_framework::component::{Backbone, ImageShape};
    use convmae_framework::graph::{Checked, Model, catalog, check};
    use convmae_framework::nn::{Init, Scope};
    use convmae_framework::recipe::{Sources, load};
    use serde_json::{Value, json};

    use super::*;

    fn params() -> Vec<Param> {
        let scope = Scope::new(0);
        scope.at_layer(0).frozen("pos_embed", &[1, 2, 2], &Init::ONES);
        scope.at_layer(1).param("fc.weight", &[2, 2], &Init::ONES);
        scope.at_layer(1).param("fc.bias", &[2], &Init::ONES);
        scope.param("mask_token", &[1, 1, 2], &Init::ONES);
        scope.params()
    }

    fn grouping(no_weight_decay: &[String], layer_decay: Option<f64>) -> Grouping<'_> {
        Grouping { weight_decay: 0.5, no_weight_decay, layer_decay }
    }

    /// Name, tensors, parameters, scale of the learning rate and weight decay of every group.
    fn table(grouping: Grouping<'_>) -> Vec<(String, usize, u64, f64, f64)> {
        let (groups, _) = grouping.sort(&params()).unwrap();
        groups.into_iter().map(|g| (g.name, g.tensors, g.parameters, g.lr_scale, g.weight_decay)).collect()
    }

    #[test]
    fn only_tensors_with_several_axes_are_decayed_and_frozen_ones_are_left_out() {
        let expected = [("decay".to_owned(), 2, 6, 1.0, 0.5), ("no_decay".to_owned(), 1, 2, 1.0, 0.0)];
        assert_eq!(table(Grouping::by_decay(0.5)), expected);
    }

    #[test]
    fn parameters_can_be_exempt_by_name() {
        let expected = [("decay".to_owned(), 1, 4, 1.0, 0.5), ("no_decay".to_owned(), 2, 4, 1.0, 0.0)];
        assert_eq!(table(grouping(&["mask_token".to_owned()], None)), expected);
    }

    #[test]
    fn a_layer_gets_a_fraction_of_the_next_ones_rate_and_what_has_none_comes_last() {
        let expected = [
            ("layer_1_decay".to_owned(), 1, 4, 0.25, 0.5),
            ("layer_1_no_decay".to_owned(), 1, 2, 0.25, 0.0),
            ("layer_2_decay".to_owned(), 1, 2, 1.0, 0.5),
        ];
        assert_eq!(table(grouping(&[], Some(0.25))), expected);
    }

    #[test]
    fn an_unknown_name_is_a_problem_with_the_nearest_name() {
        let problem = |name: &str| grouping(&[name.to_owned()], None).sort(&params()).unwrap_err();
        let misspelt = problem("pos_embd");
        assert_eq!(misspelt.key, "no_weight_decay.0");
        assert_eq!(misspelt.help.unwrap(), "did you mean `pos_embed`?");
        assert!(problem("x").help.unwrap().contains("as checkpoints name them"));
        assert!(grouping(&["pos_embed".to_owned()], None).sort(&params()).is_ok());
    }

    #[test]
    fn a_layer_decay_without_layers_is_a_problem() {
        let scope = Scope::new(0);
        scope.param("w", &[2, 2], &Init::ONES);
        let problem = grouping(&[], Some(0.65)).sort(&scope.params()).unwrap_err();
        assert_eq!(problem.key, "layer_decay");
        assert!(problem.help.unwrap().contains("ConvViT"));
    }

    /// The classifier's parameters: the backbone's, then those of the head in the official order.
    fn classifier(fields: &Value, classes: usize) -> Vec<Param> {
        let mut spec = json!({ "type": "ConvViT", "final_norm": false, "train_pos_embed": true });
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let backbone: Box<dyn Backbone> = serde_json::from_value(spec).unwrap();
        let scope = Scope::describe();
        let image = ImageShape { channels: 3, height: 224, width: 224 };
        let levels = backbone.build(&scope, image, None).unwrap().levels();
        let dim = levels[2].channels;
        scope.param("head.weight", &[classes, dim], &Init::ONES);
        scope.param("head.bias", &[classes], &Init::ONES);
        scope.param("fc_norm.weight", &[dim], &Init::ONES);
        scope.param("fc_norm.bias", &[dim], &Init::ONES);
        scope.params()
    }

    #[test]
    fn the_groups_are_the_official_ones() {
        let file =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/finetune/param_groups_layer_decay_0.65.json");
        let golden: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let narrow = json!({ "embed_dim": [8, 12, 24], "depth": [1, 1, 2], "num_heads": 4 });
        for (model, params) in [("narrow", classifier(&narrow, 10)), ("base", classifier(&json!({}), 1000))] {
            let exempt = ["pos_embed".to_owned()];
            let grouping = Grouping { weight_decay: 0.05, no_weight_decay: &exempt, layer_decay: Some(0.65) };
            let (groups, members) = grouping.sort(&params).unwrap();
            let expected = golden[model]["groups"].as_array().unwrap();
            assert_eq!(groups.len(), expected.len());
            for (group, expected) in groups.iter().zip(expected) {
                let scale = expected["lr_scale"].as_f64().unwrap();
                assert!((group.lr_scale - scale).abs() <= 1e-12 * scale, "{group:?} {expected}");
                assert_eq!(json!(group.weight_decay), expected["weight_decay"]);
                assert_eq!(json!(group.tensors), expected["n_tensors"]);
            }
            let expected = golden[model]["params"].as_object().unwrap();
            assert_eq!(members.len(), expected.len());
            for (param, group) in &members {
                let expected = &expected[param.name()];
                assert_eq!(json!(group), expected["group"], "{}", param.name());
                assert_eq!(json!(param.shape()), expected["shape"], "{}", param.name());
            }
        }
    }

    /// The parameters of the recipe's model.
    fn segmenter() -> Vec<Param> {
        let recipe =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../recipes/segmentation/upernet_convmae_base_160k.yaml");
        let sources = Sources { recipe: recipe.into(), ..Sources::default() };
        let Checked { plan, image, .. } = check(&load(&sources, &catalog()).unwrap()).unwrap();
        Model::build(&plan, image, &Scope::describe()).unwrap().params()
    }

    /// Nothing is exempt by name there: `pos_embed` is decayed.
    #[test]
    fn the_groups_of_a_segmenter_are_the_official_ones() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/segmentation/layer_decay_groups.json");
        let golden: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let expected = golden["params"].as_object().unwrap();
        let params = segmenter();
        let grouping = Grouping { weight_decay: 0.05, no_weight_decay: &[], layer_decay: Some(0.75) };
        let (groups, members) = grouping.sort(&params).unwrap();
        let official = golden["groups"].as_array().unwrap();
        assert_eq!((groups.len(), members.len()), (official.len(), expected.len()));
        for group in &groups {
            // Groups are in the order of the parameters, which is another one.
            let official =
                official.iter().find(|official| official["group_name"] == json!(group.name)).unwrap();
            assert_eq!(json!(group.tensors), official["n_tensors"]);
            assert_eq!(json!(group.parameters), official["n_elements"]);
            assert_eq!(json!(group.weight_decay), official["weight_decay"]);
            let scale = official["lr_scale"].as_f64().unwrap();
            assert!((group.lr_scale - scale).abs() <= 1e-12 * scale, "{group:?} {official}");
        }
        for (param, group) in &members {
            let expected = &expected[param.name()];
            let official = &official[expected["group"].as_u64().unwrap() as usize];
            assert_eq!(json!(groups[*group].name), official["group_name"], "{}", param.name());
            assert_eq!(json!(param.shape()), expected["shape"], "{}", param.name());
        }
    }
}
