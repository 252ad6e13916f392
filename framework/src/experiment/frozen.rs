//! What of a node is not trained.

use glob::Pattern;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::nn::{Param, Scope};
use crate::recipe::{Problem, nearest};

/// What of a node stays as it is: all or nothing, its first blocks, or parameters by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Frozen {
    /// All of its parameters, or none.
    All(bool),
    /// So many of the first blocks of a backbone, with all that comes before them.
    Blocks(#[schemars(range(max = 65536))] usize),
    /// Parameters by name, in which `*` stands for any characters, dots too; the node's prefix may be left out.
    Names(Vec<String>),
}

impl Default for Frozen {
    fn default() -> Self {
        Self::All(false)
    }
}

impl Frozen {
    /// The scope of a node with such a prefix, in which what it freezes is not trained; `blocks` are the names
    /// of the parameters of its blocks.
    ///
    /// # Errors
    /// Names that are no patterns, more blocks than there are; keys are relative to the node.
    pub fn apply(
        &self,
        prefix: &str,
        blocks: impl FnOnce() -> Vec<Vec<String>>,
        scope: &Scope,
    ) -> Result<Scope, Problem> {
        let names = match self {
            Self::All(true) => return Ok(scope.freeze()),
            Self::All(false) => return Ok(scope.clone()),
            Self::Blocks(count) => first_blocks(blocks(), *count)?,
            Self::Names(names) => names.clone(),
        };
        let (patterns, prefix) = (patterns(&names)?, prefix.to_owned());
        Ok(scope.freeze_named(move |name| patterns.iter().any(|pattern| fits(pattern, name, &prefix))))
    }

    /// That every name is one of the node's parameters.
    ///
    /// # Errors
    /// The first name that is not.
    pub fn check(&self, prefix: &str, params: &[Param]) -> Result<(), Problem> {
        let Self::Names(names) = self else { return Ok(()) };
        for (at, pattern) in patterns(names)?.iter().enumerate() {
            if params.iter().any(|param| fits(pattern, param.name(), prefix)) {
                continue;
            }
            let known = params.iter().map(Param::name);
            let help = match nearest(&names[at], known) {
                Some(name) => format!("did you mean `{name}`?"),
                None => "write parameters as checkpoints name them, such as `blocks1.*`".to_owned(),
            };
            let message = format!("the node has no parameter `{}`", names[at]);
            return Err(Problem::new(format!("frozen.{at}"), message).help(help));
        }
        Ok(())
    }
}

/// Whether a pattern is of a name, with or without the prefix of its node.
fn fits(pattern: &Pattern, name: &str, prefix: &str) -> bool {
    let own = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.'));
    pattern.matches(name) || own.is_some_and(|own| pattern.matches(own))
}

fn patterns(names: &[String]) -> Result<Vec<Pattern>, Problem> {
    let pattern = |(at, name): (usize, &String)| {
        Pattern::new(name).map_err(|error| {
            Problem::new(format!("frozen.{at}"), format!("`{name}` is no pattern: {}", error.msg))
                .help("one `*` stands for any characters, dots too")
        })
    };
    names.iter().enumerate().map(pattern).collect()
}

/// The names of the parameters of so many of the first blocks.
fn first_blocks(blocks: Vec<Vec<String>>, count: usize) -> Result<Vec<String>, Problem> {
    if count <= blocks.len() {
        return Ok(blocks.into_iter().take(count).flatten().collect());
    }
    let problem = match blocks.len() {
        0 => Problem::new("frozen", "it has no blocks to count")
            .help("say `frozen: true`, or name parameters: `frozen: [blocks1.*]`"),
        known => Problem::new("frozen", format!("there are {known} blocks, not {count}"))
            .help("`frozen: true` keeps all of them"),
    };
    Err(problem)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::nn::Init;

    fn frozen(value: serde_json::Value) -> Frozen {
        serde_json::from_value(value).unwrap()
    }

    fn blocks() -> Vec<Vec<String>> {
        [&["embed.*", "blocks.0.*"][..], &["blocks.1.*"]]
            .map(|names| names.iter().map(|&name| name.into()).collect())
            .into()
    }

    /// Which of four parameters of a node with a prefix are trained.
    fn trained(value: serde_json::Value) -> Result<[bool; 4], Problem> {
        let frozen = frozen(value);
        let root = Scope::describe();
        let scope = frozen.apply("backbone", blocks, &root.child("backbone"))?;
        for name in ["embed.w", "blocks.0.w", "blocks.1.w", "norm.w"] {
            scope.param(name, &[1], &Init::ZEROS);
        }
        frozen.check("backbone", &root.params())?;
        Ok(std::array::from_fn(|at| root.params()[at].requires_grad()))
    }

    #[test]
    fn all_names_or_the_first_blocks_are_kept() {
        assert_eq!(trained(json!(true)), Ok([false; 4]));
        assert_eq!(trained(json!(false)), Ok([true; 4]));
        assert_eq!(trained(json!(["embed*", "blocks.*.w"])), Ok([false, false, false, true]));
        assert_eq!(trained(json!(["backbone.norm.w"])), Ok([true, true, true, false]));
        assert_eq!(trained(json!([])), Ok([true; 4]));
        assert_eq!(trained(json!(0)), Ok([true; 4]));
        assert_eq!(trained(json!(1)), Ok([false, false, true, true]));
        assert_eq!(trained(json!(2)), Ok([false, false, false, true]));
    }

    #[test]
    fn names_of_nothing_and_too_many_blocks_are_refused() {
        let problem = trained(json!(["embed*", "backbone.blocks.1.v"])).unwrap_err();
        assert_eq!(
            (problem.key.as_str(), problem.help.as_deref()),
            ("frozen.1", Some("did you mean `backbone.blocks.1.w`?"))
        );
        assert_eq!(trained(json!(["a**b"])).unwrap_err().key, "frozen.0");
        assert_eq!(trained(json!(3)).unwrap_err().message, "there are 2 blocks, not 3");
        let headless = Frozen::Blocks(1).apply("", Vec::new, &Scope::describe()).err().unwrap();
        assert!(headless.message.contains("no blocks"), "{}", headless.message);
    }
}
