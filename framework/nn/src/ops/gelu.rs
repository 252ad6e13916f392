//! The activation of the transformer and convolution blocks.

use crate::tensor::{Result, Tensor};

/// GELU with the exact error function, as PyTorch's default.
pub fn gelu(x: Tensor) -> Result<Tensor> {
    implementation::gelu(x)
}

//KERNEL

use crate::backend::{Buffer, gelu};
use crate::ops::operation;
use crate::tensor::{Result, Tensor};

pub fn gelu(x: Tensor) -> Result<Tensor> {
    let shape = x.shape();
    operation(vec![x], shape, |mut values, record| {
        let mut x = values.swap_remove(0);
        let y = gelu::forward(&x)?;
        let backward = move |mut grad: Buffer| {
            gelu::backward_again(&mut grad, &mut x)?;
            Ok(vec![grad])
        };
        Ok((y, record.then(|| Box::new(backward) as _)))
    })
}
//END


#[cfg(test)]
mod tests {
    use super::{composed, gelu};
    use crate::testing::{noise, run};

    #[test]
    fn equals_the_composed_operation() {
        let mut x: Vec<f32> = noise(1, 60).iter().map(|x| 4.0 * x).collect();
        x[..3].copy_from_slice(&[0.0, 0.005, -0.005]);
        run(&x, (2, 3, 10), &[], gelu).assert_close(&run(&x, (2, 3, 10), &[], composed::gelu), 1e-6);
    }
}
