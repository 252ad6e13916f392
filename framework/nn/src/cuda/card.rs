//! The card of a thread: its memory, its kernels and its products.

use std::cell::{Ref, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use cudarc::cublas::CudaBlas;
use cudarc::driver::{CudaDevice, CudaSlice, DeviceSlice};

use super::blaslt::Plans;
use super::module::Functions;
use crate::Result;
use crate::device::{self, DeviceError, DeviceName};
use crate::error::Error;

/// A card that this thread computes on.
pub struct Card {
    pub device: Arc<CudaDevice>,
    pub blas: CudaBlas,
    pub products: Plans,
    pub functions: Functions,
    counters: RefCell<Option<CudaSlice<u32>>>,
}

impl Card {
    /// At least that many zeros, which kernels count with, one after the other, and leave as zeros.
    pub fn counters(&self, count: usize) -> Result<Ref<'_, CudaSlice<u32>>> {
        let has_enough = |counters: &CudaSlice<u32>| DeviceSlice::len(counters) >= count;
        if !self.counters.borrow().as_ref().is_some_and(has_enough) {
            let counters = checked(self.device.alloc_zeros(count.max(1024)))?;
            self.counters.replace(Some(counters));
        }
        Ref::filter_map(self.counters.borrow(), Option::as_ref)
            .map_err(|_| Error::Device("there are no counters".to_owned()))
    }
}

thread_local! {
    static CARDS: RefCell<HashMap<u16, Rc<Card>>> = RefCell::default();
}

/// The card of this thread, whose context becomes the current one: that of dfdx's device of the same name.
pub fn card() -> Result<Rc<Card>> {
    let DeviceName::Cuda(number) = device::name()? else { return Err(Error::BuiltWithCuda) };
    if let Some(card) = CARDS.with_borrow(|cards| cards.get(&number).cloned()) {
        checked(card.device.bind_to_thread())?;
        return Ok(card);
    }
    let device = checked(CudaDevice::new(usize::from(number)))?;
    let blas = checked(CudaBlas::new(Arc::clone(&device)))?;
    let card = Card {
        device,
        blas,
        products: Plans::default(),
        functions: Functions::default(),
        counters: RefCell::default(),
    };
    let card = Rc::new(card);
    CARDS.with_borrow_mut(|cards| cards.insert(number, Rc::clone(&card)));
    Ok(card)
}

/// The result of the driver or of a library, with an error as those of dfdx.
pub fn checked<T, E>(result: Result<T, E>) -> Result<T>
where
    DeviceError: From<E>,
{
    Ok(result.map_err(DeviceError::from)?)
}
