//! Tells, while a backward runs, which parameters have all of their gradient.
//!
//! What a backward needs it owns: an operation holds the parameters that it adds a gradient to, and lets go of them when its
//! backward has run. So the gradient of a parameter is complete as soon as nobody holds the parameter who did not before the forward.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use crate::Param;

thread_local! {
    static WATCH: RefCell<Option<Rc<Watch>>> = const { RefCell::new(None) };
}

/// Parameters whose gradients are watched.
pub struct Completion(Watch);

struct Watch {
    params: Vec<Param>,
    /// How often each was held before the forward.
    owners: Vec<usize>,
    /// Where each is in `params`.
    places: HashMap<usize, usize>,
    /// Those that have a gradient, of which it is not known yet whether it is complete.
    open: RefCell<BTreeSet<usize>>,
    complete: Box<dyn Fn(usize)>,
}

impl Completion {
    /// Before the forward of a batch. `complete` gets the place of a parameter, once, as soon as its gradient is complete; not of all: it is
    /// seen when a gradient of another parameter follows.
    pub fn before_forward(params: &[Param], complete: impl Fn(usize) + 'static) -> Self {
        let params = params.to_vec();
        let places = params.iter().enumerate().map(|(place, param)| (param.address(), place)).collect();
        // Nobody is to hold one for `complete` that is not counted.
        let owners = params.iter().map(Param::owners).collect();
        Self(Watch { params, owners, places, open: RefCell::default(), complete: Box::new(complete) })
    }

    /// Runs the backward of that forward.
    pub fn watch<R>(self, backward: impl FnOnce() -> R) -> R {
        let before = WATCH.replace(Some(Rc::new(self.0)));
        let result = backward();
        WATCH.set(before);
        result
    }
}

/// Says that something was added to the gradients of parameters.
pub(super) fn added<'p>(params: impl Iterator<Item = &'p Param>) {
    let Some(watch) = WATCH.with_borrow(Clone::clone) else { return };
    let places = params.filter_map(|param| watch.places.get(&param.address()).copied());
    watch.open.borrow_mut().extend(places);
    let is_complete = |place: &usize| watch.params[*place].owners() <= watch.owners[*place];
    let complete: Vec<usize> = watch.open.borrow().iter().copied().filter(is_complete).collect();
    watch.open.borrow_mut().retain(|place| !complete.contains(place));
    complete.into_iter().for_each(&watch.complete);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::backend::download;
    use crate::backward::backward;
    use crate::layers::Linear;
    use crate::ops::{Gelu, Sequential};
    use crate::random::{Purpose, stream};
    use crate::testing::{loss, noise};
    use crate::{Context, Init, Scope, Tape, Tensor};

    fn grads(params: &[Param]) -> Vec<Option<Vec<f32>>> {
        params.iter().map(|param| param.grad().map(|grad| download(&grad).unwrap())).collect()
    }

    #[test]
    fn a_gradient_is_complete_behind_its_last_use_within_an_operation_and_not_before() {
        let scope = Scope::new(0);
        let [first, twice, last] =
            ["first", "twice", "last"].map(|name| Linear::new(&scope.child(name), 4, 4));
        scope.param("unused", &[1], &Init::ZEROS);
        let params = scope.params();
        let ctx = Context::train(stream(Purpose::Step, &[0]));
        let seen: Rc<RefCell<Vec<_>>> = Rc::default();
        let completion = Completion::before_forward(&params, {
            let (seen, params) = (Rc::clone(&seen), params.clone());
            move |place| seen.borrow_mut().push((place, grads(&params[place..=place]).swap_remove(0)))
        });
        let x = Tensor::from_vec(noise(1, 24), (2, 3, 4), &Tape::none()).unwrap();
        let layers = [&first, &twice, &last, &twice];
        let layers = layers.into_iter().fold(Sequential::new(), |all, fc| all.then(fc.clone()).then(Gelu));
        let y = layers.forward(x, &ctx).unwrap();
        completion.watch(|| backward(loss(y)).unwrap());
        let names: Vec<_> = seen.borrow().iter().map(|(place, _)| params[*place].name().to_owned()).collect();
        // The first layer's are complete with the backward itself.
        assert_eq!(names, ["last.weight", "last.bias", "twice.weight", "twice.bias"]);
        let all = grads(&params);
        seen.borrow().iter().for_each(|(place, grad)| assert_eq!(*grad, all[*place]));
    }

    #[test]
    fn nothing_is_said_where_nobody_watches() {
        let scope = Scope::new(0);
        let fc = Linear::new(&scope, 4, 4);
        let ctx = Context::train(stream(Purpose::Step, &[0]));
        let completion = Completion::before_forward(&scope.params(), |_| panic!("nobody watches"));
        let x = Tensor::from_vec(noise(1, 4), (1, 4), &Tape::none()).unwrap();
        let y = fc.forward(x, &ctx).unwrap();
        completion.watch(|| ());
        backward(loss(y)).unwrap();
    }
}
