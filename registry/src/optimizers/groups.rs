//! Parameter groups: weight decay, and layer-wise learning rate decay.

use convmae_framework::component::{ParameterGroup, Problem};
use convmae_framework::nn::Param;
use glob::Pattern;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What sorts trainable parameters into groups.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grouping<'a> {
    /// Weight decay of the parameters that are decayed.
    pub weight_decay: f64,
    /// Which ones are.
    pub decayed: Decayed,
    /// Names of parameters that are not, nevertheless.
    pub no_weight_decay: &'a [String],
    /// The learning rate of a layer, as a multiple of that of the layer behind it.
    pub layer_decay: Option<f64>,
    /// What differs for some parameters; the last one that says something holds.
    pub overrides: &'a [Override],
}

/// Which parameters are decayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decayed {
    /// Those with several axes that are no biases (timm's `add_weight_decay`).
    #[default]
    Weights,
    /// All, biases too, as in detectron2. It leaves out norms: name them in `no_weight_decay`, `*norm*`.
    All,
}

/// How some parameters differ from the others (`overrides` of detectron2's `get_default_optimizer_params`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// Names of parameters, in which `*` stands for anything, dots too: `[pos_embed]`, `["*.bias"]`.
    #[schemars(length(min = 1))]
    pub names: Vec<String>,
    /// Their learning rate as a multiple of the full one, instead of that of their layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub lr_scale: Option<f64>,
    /// Their weight decay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub weight_decay: Option<f64>,
}

/// The groups in order of first occurrence, and every trainable parameter with the index of its group.
pub(super) type Grouped = (Vec<ParameterGroup>, Vec<(Param, usize)>);

impl Grouping<'_> {
    /// Two groups: what is decayed, and what is not.
    pub fn by_decay(weight_decay: f64) -> Self {
        let decayed = Decayed::default();
        Self { weight_decay, decayed, no_weight_decay: &[], layer_decay: None, overrides: &[] }
    }

    /// Sorts the trainable ones of `params` (`param_groups_lrd` of the official `util/lr_decay.py`).
    ///
    /// # Errors
    /// A name in `no_weight_decay` or `overrides` that no parameter has; a `layer_decay` where no parameter
    /// has a layer.
    pub fn sort(&self, params: &[Param]) -> Result<Grouped, Problem> {
        check_names("no_weight_decay", self.no_weight_decay, params)?;
        for (position, Override { names, .. }) in self.overrides.iter().enumerate() {
            check_names(&format!("overrides.{position}.names"), names, params)?;
        }
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
        let decayed = match self.decayed {
            Decayed::Weights => is_weight(param),
            Decayed::All => true,
        };
        let decayed = decayed && !named(self.no_weight_decay, param);
        let decay_name = if decayed { "decay" } else { "no_decay" };
        let (name, lr_scale) = match layers {
            None => (decay_name.to_owned(), 1.0),
            Some((decay, head)) => {
                let layer = param.layer().unwrap_or(head);
                (format!("layer_{layer}_{decay_name}"), decay.powi((head - layer) as i32))
            }
        };
        let weight_decay = if decayed { self.weight_decay } else { 0.0 };
        let mut group = ParameterGroup { name, tensors: 0, parameters: 0, lr_scale, weight_decay };
        for Override { names, lr_scale, weight_decay } in self.overrides {
            if named(names, param) {
                group.name = format!("{} ({})", group.name, names.join(", "));
                group.lr_scale = lr_scale.unwrap_or(group.lr_scale);
                group.weight_decay = weight_decay.unwrap_or(group.weight_decay);
            }
        }
        group
    }
}

/// Whether a parameter has one of these names, in which `*` stands for anything.
fn named(names: &[String], param: &Param) -> bool {
    names.iter().any(|name| Pattern::new(name).is_ok_and(|pattern| pattern.matches(param.name())))
}

/// That every name is one of a parameter.
fn check_names(key: &str, names: &[String], params: &[Param]) -> Result<(), Problem> {
    for (position, name) in names.iter().enumerate() {
        let key = format!("{key}.{position}");
        let pattern = Pattern::new(name).map_err(|error| {
            let message = format!("`{name}` is no pattern: {}", error.msg);
            Problem::new(key.clone(), message).help("one `*` stands for anything, dots too")
        })?;
        if params.iter().any(|param| pattern.matches(param.name())) {
            continue;
        }
        let similarity = |param: &Param| strsim::jaro_winkler(name, param.name());
        let nearest = params.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
        let help = match nearest.filter(|param| similarity(param) > 0.8) {
            Some(param) => format!("did you mean `{}`?", param.name()),
            None => "write parameters as checkpoints name them, such as `pos_embed`".to_owned(),
        };
        return Err(Problem::new(key, format!("the model has no parameter `{name}`")).help(help));
    }
    Ok(())
}

/// timm 0.3.2 `add_weight_decay`: no decay if and only if the parameter has one axis or is a bias.
fn is_weight(param: &Param) -> bool {
    param.shape().len() > 1 && param.name().rsplit('.').next() != Some("bias")
}

#[cfg(test)]
mod tests;
