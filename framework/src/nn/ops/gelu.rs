//! The activation of the transformer and convolution blocks.

use crate::nn::tensor::{Result, T3};

#[cfg(feature = "cuda")]
use composed as implementation;
#[cfg(not(feature = "cuda"))]
use kernel as implementation;

/// GELU with the exact error function, as PyTorch's default.
pub fn gelu(x: T3) -> Result<T3> {
    implementation::gelu(x)
}

#[cfg(not(feature = "cuda"))]
mod kernel {
    use dfdx::shapes::HasShape as _;

    use crate::nn::kernels::gelu;
    use crate::nn::ops::{flat, operation};
    use crate::nn::tensor::{Result, T3};

    pub fn gelu(x: T3) -> Result<T3> {
        let shape = *x.shape();
        operation(vec![flat(x)?], shape, |mut values, record| {
            let x = values.swap_remove(0);
            let y = gelu::forward(&x);
            Ok((y, record.then(|| Box::new(move |grad: &[f32]| vec![gelu::backward(grad, &x)]) as _)))
        })
    }
}

#[cfg(any(test, feature = "cuda"))]
mod composed {
    use crate::nn::tensor::{Result, T3};

    pub fn gelu(x: T3) -> Result<T3> {
        Ok(x.try_accurate_gelu()?)
    }
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    use super::{composed, gelu};
    use crate::nn::testing::{noise, run};

    #[test]
    fn equals_the_composed_operation() {
        let x: Vec<f32> = noise(1, 60).iter().map(|x| 4.0 * x).collect();
        run(&x, (2, 3, 10), &[], gelu).assert_close(&run(&x, (2, 3, 10), &[], composed::gelu), 1e-6);
    }
}
