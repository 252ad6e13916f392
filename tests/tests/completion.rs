//! What the backward of a shipped recipe says is complete gets no further gradient: several processes add it up from then on.

use std::cell::RefCell;
use std::rc::Rc;

use convmae_framework::component::Loss;
use convmae_framework::graph::{Model, catalog, check};
use convmae_framework::nn::backward::backward;
use convmae_framework::nn::completion::Completion;
use convmae_framework::nn::{Context, Param, Scope, backend};
use convmae_framework::random::{self, Purpose};
use convmae_framework::recipe::{Sources, load};

use crate::support::recipe;

fn gradient(param: &Param) -> Option<Vec<f32>> {
    param.grad().map(|gradient| backend::download(&gradient).unwrap())
}

/// The parameters whose gradients are complete with the backward itself, not before.
fn late(name: &str, checkpoint_activations: bool) -> Vec<String> {
    let sources = Sources {
        recipe: recipe(name),
        sets: vec!["init_from=null".to_owned(), "optimizer.layer_decay=null".to_owned()],
        ..Sources::default()
    };
    let checked = check(&load(&sources, &catalog()).unwrap()).unwrap();
    let model = Model::build(&checked.plan, checked.image, &Scope::new(0)).unwrap();
    let (params, batch) = (model.params(), model.example(2, 7));
    let mut ctx = Context::train(random::stream(Purpose::Step, &[0]));
    ctx.checkpoint_activations = checkpoint_activations;
    let complete: Rc<RefCell<Vec<_>>> = Rc::default();
    let completion = Completion::before_forward(&params, {
        let (complete, params) = (Rc::clone(&complete), params.clone());
        move |place| complete.borrow_mut().push((place, gradient(&params[place])))
    });
    let outputs = model.forward(&batch, &ctx).unwrap();
    let total = Loss::total(model.losses(&outputs, &batch, &ctx).unwrap()).unwrap().unwrap();
    drop(outputs);
    completion.watch(|| backward(total)).unwrap();
    let complete = complete.borrow();
    for (place, early) in complete.iter() {
        let param = &params[*place];
        assert!(early.is_some() && *early == gradient(param), "{name}: {}", param.name());
    }
    let is_late = |place: usize| !complete.iter().any(|(complete, _)| *complete == place);
    let trained = params.iter().enumerate().filter(|(_, param)| param.grad().is_some());
    trained.filter(|(place, _)| is_late(*place)).map(|(_, param)| param.name().to_owned()).collect()
}

#[test]
fn nothing_is_added_to_a_gradient_that_is_complete_and_only_the_first_layer_is_late() {
    for (name, prefix) in [
        ("quickstart.yaml", ""),
        ("finetune/convmae_synthetic.yaml", ""),
        ("segmentation/upernet_synthetic.yaml", "backbone."),
        ("detection/mask_rcnn_synthetic.yaml", "backbone.bottom_up."),
    ] {
        let first = ["weight", "bias"].map(|kind| format!("{prefix}patch_embed1.proj.{kind}"));
        for checkpoint_activations in [false, true] {
            assert_eq!(late(name, checkpoint_activations), first, "{name}");
        }
    }
}
