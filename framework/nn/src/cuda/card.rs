//! The card of a thread: its memory, its kernels and its products.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use cudarc::cublas::CudaBlas;
use cudarc::cublas::sys::{cublasMath_t, cublasSetMathMode};
use cudarc::driver::CudaDevice;

use super::module::Functions;
use crate::Result;
use crate::device::{self, DeviceError, DeviceName};
use crate::error::Error;

/// A card that this thread computes on.
pub struct Card {
    pub device: Arc<CudaDevice>,
    pub blas: CudaBlas,
    pub functions: Functions,
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
    allow_tf32(&blas)?;
    let card = Rc::new(Card { device, blas, functions: Functions::default() });
    CARDS.with_borrow_mut(|cards| cards.insert(number, Rc::clone(&card)));
    Ok(card)
}

/// Lets cuBLAS multiply `f32` in TF32 (10 bits of the mantissa), as the official code does on A100 and later cards; the environment's
/// `NVIDIA_TF32_OVERRIDE=0` forbids it.
fn allow_tf32(blas: &CudaBlas) -> Result<()> {
    // SAFETY: the handle is that of a library which is open.
    checked(unsafe { cublasSetMathMode(*blas.handle(), cublasMath_t::CUBLAS_TF32_TENSOR_OP_MATH) }.result())
}

/// The result of the driver or of a library, with an error as those of dfdx.
pub fn checked<T, E>(result: Result<T, E>) -> Result<T>
where
    DeviceError: From<E>,
{
    Ok(result.map_err(DeviceError::from)?)
}
