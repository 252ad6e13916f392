//! The gradient of a step over all processes, added up while the backward still runs.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::distributed::{CommunicationError, Communicator, Pending, Reduction};
use crate::nn::backend::{Buffer, read, write, zeros};
use crate::nn::{self, Param};

/// Bytes that go out at once: enough for the network, little beside a model.
const BUCKET_BYTES: usize = 25 << 20;

/// Buckets on their way at most: each is a copy of gradients.
const ON_THEIR_WAY: usize = 4;

/// The gradients of all parameters that are trained, in buckets that are the same in all processes: the last parameters first, as a
/// backward completes them. A bucket goes out as soon as its parameters, and all buckets before it, are complete.
pub struct Exchange {
    params: Vec<Param>,
    communicator: Rc<dyn Communicator>,
    reduction: Reduction,
    /// The places of their parameters.
    buckets: Vec<Vec<usize>>,
    state: RefCell<State>,
}

/// How far it has come.
#[derive(Default)]
struct State {
    /// Of which parameters nothing is added to the gradient any more.
    complete: Vec<bool>,
    /// Which had a gradient in this process.
    present: Vec<bool>,
    /// Of buckets that were given out, until they are sums.
    gradients: Vec<Option<Buffer>>,
    /// How many buckets were given out.
    given: usize,
    /// Those that are on their way, in their order.
    on_their_way: VecDeque<Box<dyn Pending>>,
    /// What went wrong during the backward.
    failed: Option<CommunicationError>,
}

impl Exchange {
    /// Of a step that begins.
    pub fn new(params: &[Param], communicator: Rc<dyn Communicator>, reduction: Reduction) -> Self {
        Self::in_buckets(params, communicator, reduction, BUCKET_BYTES / size_of::<f32>())
    }

    /// In buckets of so many values.
    fn in_buckets(
        params: &[Param],
        communicator: Rc<dyn Communicator>,
        reduction: Reduction,
        most: usize,
    ) -> Self {
        let state = State {
            complete: vec![false; params.len()],
            present: vec![false; params.len()],
            gradients: params.iter().map(|_| None).collect(),
            ..State::default()
        };
        Self {
            params: params.to_vec(),
            communicator,
            reduction,
            buckets: buckets(params, most),
            state: RefCell::new(state),
        }
    }

    /// Takes in that the gradient of the parameter at `place` is complete, unless it could not be added up, and gives out what can
    /// go. What fails [`close`](Self::close) says.
    pub fn complete(&self, place: usize, sum: nn::Result<()>) {
        let state = &mut *self.state.borrow_mut();
        state.complete[place] = true;
        if state.failed.is_none() {
            state.failed =
                sum.map_err(CommunicationError::from).and_then(|()| self.go_on(state, false)).err();
        }
    }

    /// Takes in that this process's backward is done, and tells which parameters have a gradient.
    ///
    /// # Errors
    /// If buckets could not be given out, or something was added to a gradient that had gone.
    pub fn close(&self) -> Result<Vec<bool>, CommunicationError> {
        let state = &mut *self.state.borrow_mut();
        if let Some(error) = state.failed.take() {
            return Err(error);
        }
        for (place, param) in self.params.iter().enumerate() {
            if state.gradients[place].is_some() && param.grad().is_some() {
                return Err(nn::Error::Value(format!(
                    "a backward has added to the gradient of {} behind the last operation that holds it: a layer has to own the \
                     parameters that it trains",
                    param.name()
                ))
                .into());
            }
        }
        state.complete.fill(true);
        self.go_on(state, false)?;
        let waiting = self.buckets[state.given..].iter().flatten();
        waiting.for_each(|&place| state.present[place] = self.params[place].grad().is_some());
        Ok(state.present.clone())
    }

    /// Leaves the sums at the parameters that have a gradient in any process, as each has told.
    ///
    /// # Errors
    /// If a process cannot be reached, or the device fails.
    pub fn finish(&self, present: &[Vec<bool>]) -> Result<(), CommunicationError> {
        let state = &mut *self.state.borrow_mut();
        self.go_on(state, true)?;
        for (place, param) in self.params.iter().enumerate() {
            if let Some(sum) = state.gradients[place].take()
                && present.iter().any(|of_process| of_process[place])
            {
                param.put_grad(sum);
            }
        }
        Ok(())
    }

    /// Gives out what others wait for, where the step has failed.
    ///
    /// # Errors
    /// If a process cannot be reached, or the device fails.
    pub fn abandon(&self) -> Result<(), CommunicationError> {
        let state = &mut *self.state.borrow_mut();
        state.complete.fill(true);
        self.go_on(state, true)
    }

    /// Takes in the sums that are there, and gives out the buckets that are complete as long as not too many are on their way; with `all`
    /// until nothing is.
    fn go_on(&self, state: &mut State, all: bool) -> Result<(), CommunicationError> {
        loop {
            while state.on_their_way.len() < ON_THEIR_WAY
                && let Some(bucket) = self.buckets.get(state.given)
                && bucket.iter().all(|&place| state.complete[place])
            {
                let values = self.taken(state, bucket)?;
                state.on_their_way.push_back(self.communicator.sum(values, self.reduction));
                state.given += 1;
            }
            let first = state.given - state.on_their_way.len();
            let is_there = |pending: &mut Box<dyn Pending>| all || pending.is_there();
            if !state.on_their_way.front_mut().is_some_and(is_there) {
                return Ok(());
            }
            if let Some(pending) = state.on_their_way.pop_front() {
                self.put_back(state, &self.buckets[first], &pending.wait()?)?;
            }
        }
    }

    /// Takes the gradients of a bucket away from its parameters: zeros of those without.
    fn taken(&self, state: &mut State, bucket: &[usize]) -> nn::Result<Vec<f32>> {
        let mut values = vec![0.0; bucket.iter().map(|&place| self.params[place].numel()).sum()];
        let mut rest = values.as_mut_slice();
        for &place in bucket {
            let param = &self.params[place];
            let own;
            (own, rest) = rest.split_at_mut(param.numel());
            let gradient = param.take_grad();
            state.present[place] = gradient.is_some();
            if let Some(gradient) = &gradient {
                read(gradient, own)?;
            }
            state.gradients[place] = Some(gradient.map_or_else(|| zeros(param.numel()), Ok)?);
        }
        Ok(values)
    }

    fn put_back(&self, state: &mut State, bucket: &[usize], mut sums: &[f32]) -> nn::Result<()> {
        for &place in bucket {
            let own;
            (own, sums) = sums.split_at(self.params[place].numel());
            if let Some(gradient) = &mut state.gradients[place] {
                write(gradient, own)?;
            }
        }
        Ok(())
    }
}

/// The places of parameters that are trained, the last first, in parts of so many values at most; a parameter that has more is a part.
fn buckets(params: &[Param], most: usize) -> Vec<Vec<usize>> {
    let mut buckets: Vec<Vec<usize>> = Vec::new();
    let mut room = 0;
    for (place, param) in params.iter().enumerate().rev().filter(|(_, param)| param.requires_grad()) {
        match buckets.last_mut() {
            Some(bucket) if param.numel() <= room => {
                room -= param.numel();
                bucket.push(place);
            }
            _ => {
                room = most.saturating_sub(param.numel());
                buckets.push(vec![place]);
            }
        }
    }
    buckets
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::cell::Cell;

    use super::*;
    use crate::nn::backend::{download, upload};
    use crate::nn::{Init, Scope};

    /// Processes that give ten times as much as this one does.
    #[derive(Default)]
    struct Others {
        /// The buckets that were given out.
        given: RefCell<Vec<Vec<f32>>>,
        /// How many of them are sums.
        arrived: Rc<Cell<usize>>,
    }

    struct Sum {
        number: usize,
        values: Vec<f32>,
        arrived: Rc<Cell<usize>>,
    }

    impl Pending for Sum {
        fn is_there(&mut self) -> bool {
            self.number < self.arrived.get()
        }

        fn wait(self: Box<Self>) -> Result<Vec<f32>, CommunicationError> {
            Ok(self.values.iter().map(|value| 11.0 * value).collect())
        }
    }

    impl Communicator for Others {
        fn rank(&self) -> usize {
            0
        }

        fn size(&self) -> usize {
            2
        }

        fn sum(&self, values: Vec<f32>, _: Reduction) -> Box<dyn Pending> {
            let mut given = self.given.borrow_mut();
            given.push(values.clone());
            Box::new(Sum { number: given.len() - 1, values, arrived: Rc::clone(&self.arrived) })
        }

        fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommunicationError> {
            Ok(vec![bytes.to_vec(); 2])
        }

        fn engine(&self) -> Option<String> {
            None
        }
    }

    /// Parameters of so many values, with their numbers as gradients, from 1; and an exchange in buckets of 4 values.
    fn begin(sizes: &[usize]) -> (Vec<Param>, Rc<Others>, Exchange) {
        let scope = Scope::new(0);
        let params = sizes.iter().enumerate().map(|(place, &size)| {
            let param = scope.param(&place.to_string(), &[size], &Init::ZEROS);
            param.put_grad(upload(vec![place as f32 + 1.0; size]).unwrap());
            param
        });
        let (params, others) = (params.collect::<Vec<_>>(), Rc::new(Others::default()));
        let exchange = Exchange::in_buckets(&params, Rc::clone(&others) as _, Reduction::Tree, 4);
        (params, others, exchange)
    }

    fn gradients(params: &[Param]) -> Vec<Option<Vec<f32>>> {
        params.iter().map(|param| param.grad().map(|grad| download(&grad).unwrap())).collect()
    }

    #[test]
    fn buckets_go_out_in_order_as_soon_as_they_are_complete() {
        let (params, others, exchange) = begin(&[3, 2, 2, 5]);
        let given = || others.given.borrow().clone();
        exchange.complete(1, Ok(()));
        assert!(given().is_empty(), "the last one has to go first");
        exchange.complete(3, Ok(()));
        assert_eq!(given(), [vec![4.0; 5]]);
        exchange.complete(2, Ok(()));
        assert_eq!(given()[1..], [[3.0, 3.0, 2.0, 2.0]]);
        params[0].clear_grad();
        assert_eq!(exchange.close().unwrap(), [false, true, true, true]);
        assert_eq!(given()[2..], [[0.0; 3]]);
        // Another process has it.
        exchange.finish(&[vec![false, true, true, true], vec![true; 4]]).unwrap();
        let sums = [vec![0.0; 3], vec![22.0; 2], vec![33.0; 2], vec![44.0; 5]];
        assert_eq!(gradients(&params), sums.map(Some));
    }

    #[test]
    fn what_no_process_has_stays_without_a_gradient() {
        let (params, _, exchange) = begin(&[1, 1]);
        params[0].clear_grad();
        let present = exchange.close().unwrap();
        exchange.finish(&[present.clone(), present]).unwrap();
        assert_eq!(gradients(&params), [None, Some(vec![22.0])]);
    }

    #[test]
    fn no_more_than_so_many_buckets_are_on_their_way() {
        let (params, others, exchange) = begin(&[4; 7]);
        (0..7).rev().for_each(|place| exchange.complete(place, Ok(())));
        assert_eq!(others.given.borrow().len(), ON_THEIR_WAY);
        others.arrived.set(2);
        exchange.close().unwrap();
        assert_eq!(others.given.borrow().len(), ON_THEIR_WAY + 2);
        exchange.finish(&[vec![true; 7]]).unwrap();
        assert_eq!(gradients(&params), (1..=7).map(|at| Some(vec![11.0 * at as f32; 4])).collect::<Vec<_>>());
    }

    #[test]
    fn a_step_that_fails_gives_out_what_others_wait_for() {
        let (_, others, exchange) = begin(&[4; 7]);
        exchange.complete(6, Ok(()));
        exchange.abandon().unwrap();
        assert_eq!(others.given.borrow().len(), 7);
    }

    #[test]
    fn what_goes_wrong_on_the_way_is_told_at_the_end_of_the_backward() {
        let (_, others, exchange) = begin(&[4, 4]);
        exchange.complete(1, Err(nn::Error::Value("no memory".to_owned())));
        assert_eq!(exchange.close().unwrap_err().to_string(), "no memory");
        assert!(others.given.borrow().is_empty());

        let (params, _, exchange) = begin(&[4, 4]);
        exchange.complete(1, Ok(()));
        params[1].add_grad(upload(vec![1.0; 4]).unwrap()).unwrap();
        let error = exchange.close().unwrap_err().to_string();
        assert!(
            error.contains("added to the gradient of 1 behind the last operation that holds it"),
            "{error}"
        );
    }
}
