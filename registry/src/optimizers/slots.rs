//! Optimizer state: parameters, their groups, and buffers per parameter, saved and restored.

use convmae_framework::component::{OptimizerModule, ParameterGroup, Problem};
use convmae_framework::nn::backend::step_end::GradScale;
use convmae_framework::nn::backend::{Buffer, Values, download, upload, zeros};
use convmae_framework::nn::{self, Error, Param};
use convmae_framework::weights::{HostTensor, TensorMap};

use super::groups::Grouping;

/// The trainable parameters with `N` buffers each, of the parameter's shape and zeros at first.
pub(super) struct Slots<const N: usize> {
    names: [&'static str; N],
    groups: Vec<ParameterGroup>,
    slots: Vec<Slot<N>>,
}

struct Slot<const N: usize> {
    param: Param,
    group: usize,
    buffers: [Buffer; N],
    step: u64,
}

/// A parameter that has a gradient, on its way to new values.
pub(super) struct Update<'a, const N: usize> {
    /// The parameter's values.
    pub values: &'a mut Values,
    /// Its gradient.
    pub grad: &'a Values,
    /// Its buffers.
    pub buffers: [&'a mut Values; N],
    /// Number of its axes.
    pub axes: usize,
    /// The group that it belongs to.
    pub group: &'a ParameterGroup,
    /// The number of this step of it, from 1.
    pub step: u64,
}

impl<const N: usize> Slots<N> {
    /// The trainable ones of `params`, with buffers of these names.
    pub fn new(names: [&'static str; N], params: &[Param], grouping: Grouping<'_>) -> Result<Self, Problem> {
        let (groups, members) = grouping.sort(params)?;
        let slot = |(param, group): (Param, usize)| -> nn::Result<_> {
            let mut buffers = std::array::from_fn(|_| Buffer::default());
            for buffer in &mut buffers {
                *buffer = zeros(param.numel())?;
            }
            Ok(Slot { param, group, buffers, step: 0 })
        };
        let slots = members.into_iter().map(slot).collect::<nn::Result<_>>();
        Ok(Self { names, groups, slots: slots.map_err(|error| Problem::new("", error.to_string()))? })
    }

    /// The optimizer that updates its parameters by `rule`, which gets all that have a gradient, the
    /// learning rate, and what the gradients are multiplied by.
    pub fn updated_by<F>(self, rule: F) -> Box<dyn OptimizerModule>
    where
        F: Fn(Vec<Update<'_, N>>, f64, &GradScale) -> nn::Result<()> + 'static,
    {
        Box::new(Module { slots: self, rule })
    }

    /// Lets `step` update all parameters that have a gradient.
    fn update(&mut self, step: impl FnOnce(Vec<Update<'_, N>>) -> nn::Result<()>) -> nn::Result<()> {
        let params: Vec<_> = self.slots.iter().map(|slot| slot.param.clone()).collect();
        let mut borrowed: Vec<_> = params.iter().map(|param| (param.values_mut(), param.grad())).collect();
        let mut updates = Vec::with_capacity(params.len());
        for (slot, (values, grad)) in self.slots.iter_mut().zip(&mut borrowed) {
            let Some(grad) = grad else { continue };
            slot.step += 1;
            updates.push(Update {
                values,
                grad,
                buffers: slot.buffers.each_mut().map(|buffer| &mut **buffer),
                axes: slot.param.shape().len(),
                group: &self.groups[slot.group],
                step: slot.step,
            });
        }
        step(updates)
    }

    /// The buffers as `<buffer>.<parameter>`, and the steps as `step.<parameter>`.
    fn state(&self) -> nn::Result<TensorMap> {
        let mut state = TensorMap::new();
        for slot in &self.slots {
            let name = slot.param.name();
            for (key, values) in self.names.iter().zip(&slot.buffers) {
                let tensor = HostTensor::from_f32(slot.param.shape().to_vec(), &download(values)?)
                    .map_err(|error| Error::Shape(error.to_string()))?;
                state.insert(format!("{key}.{name}"), tensor);
            }
            state.insert(format!("step.{name}"), HostTensor::scalar_i64(slot.step as i64));
        }
        Ok(state)
    }

    /// Restores what [`Self::state`] gave.
    ///
    /// # Errors
    /// A tensor that is missing or has another length.
    fn load_state(&mut self, state: &TensorMap) -> nn::Result<()> {
        let missing = |key: &str| Error::Value(format!("the optimizer state has no `{key}`"));
        for slot in &mut self.slots {
            let name = slot.param.name();
            for (key, buffer) in self.names.iter().zip(&mut slot.buffers) {
                let key = format!("{key}.{name}");
                let values = state.get(&key).map(HostTensor::to_f32).ok_or_else(|| missing(&key))?;
                if values.len() != buffer.len() {
                    return Err(Error::Shape(format!("`{key}` of the optimizer state has another shape")));
                }
                *buffer = upload(values)?;
            }
            let key = format!("step.{name}");
            slot.step = state.get(&key).and_then(HostTensor::as_i64).ok_or_else(|| missing(&key))? as u64;
        }
        Ok(())
    }
}

/// Slots, and how they and their parameters are updated.
struct Module<F, const N: usize> {
    slots: Slots<N>,
    rule: F,
}

impl<F, const N: usize> OptimizerModule for Module<F, N>
where
    F: Fn(Vec<Update<'_, N>>, f64, &GradScale) -> nn::Result<()>,
{
    fn step(&mut self, lr: f64, scale: &GradScale) -> nn::Result<()> {
        self.slots.update(|updates| (self.rule)(updates, lr, scale))
    }

    fn state(&self) -> nn::Result<TensorMap> {
        self.slots.state()
    }

    fn load_state(&mut self, state: &TensorMap) -> nn::Result<()> {
        self.slots.load_state(state)
    }

    fn groups(&self) -> Vec<ParameterGroup> {
        self.slots.groups.clone()
    }
}
