use super::heads::QUERIES;
use super::*;
use crate::testing::{assert_close, check_gradient, noise, on_threads, wide};

/// Of `q`, `kv` and the bias, `[H, M, N]`.
fn reference(q: &[f64], kv: &[f64], bias: &[f64], dims: Dims) -> Vec<f64> {
    let Dims { queries, keys, heads, head_dim, .. } = dims;
    let at = |b: usize, n: usize, part: usize, h: usize, c: usize| {
        kv[(((b * keys + n) * 2 + part) * heads + h) * head_dim + c]
    };
    let mut output = vec![0.0; q.len()];
    for (i, (output, q)) in output.chunks_exact_mut(head_dim).zip(q.chunks_exact(head_dim)).enumerate() {
        let (b, m, h) = (i / heads / queries, i / heads % queries, i % heads);
        let exps: Vec<f64> = (0..keys)
            .map(|n| {
                let dot: f64 = q.iter().enumerate().map(|(c, q)| q * at(b, n, 0, h, c)).sum();
                (dot / (head_dim as f64).sqrt() + bias[(h * queries + m) * keys + n]).exp()
            })
            .collect();
        let sum: f64 = exps.iter().sum();
        for (c, value) in output.iter_mut().enumerate() {
            *value = (0..keys).map(|n| exps[n] / sum * at(b, n, 1, h, c)).sum();
        }
    }
    output
}

/// `[tokens, 3, D]` as `[tokens, D]` and `[tokens, 2, D]`.
fn unpack(qkv: &[f32], dims: Dims) -> (Vec<f32>, Vec<f32>) {
    let tokens = qkv.chunks_exact(3 * dims.dim()).map(|token| token.split_at(dims.dim()));
    let (q, kv): (Vec<_>, Vec<_>) = tokens.unzip();
    (q.concat(), kv.concat())
}

/// Inputs so large that the softmax is not flat.
fn large_noise(seed: u64, len: usize) -> Vec<f32> {
    noise(seed, len).iter().map(|x| 2.0 * x).collect()
}

fn small(queries: usize) -> Dims {
    Dims { batch: 2, queries, keys: 5, heads: 2, head_dim: 3 }
}

#[test]
fn gradients_equal_finite_differences() {
    let dims = small(5);
    let qkv = large_noise(1, 2 * 5 * 18);
    let (bias, grad) = (noise(2, 2 * 5 * 5), noise(3, 2 * 5 * 6));
    let loss = |qkv: &[f64], bias: &[f64]| {
        let tokens = qkv.chunks_exact(18).map(|token| token.split_at(6));
        let (q, kv): (Vec<_>, Vec<_>) = tokens.unzip();
        let output = reference(&q.concat(), &kv.concat(), bias, dims);
        output.iter().zip(&grad).map(|(y, &grad)| y * f64::from(grad)).sum()
    };

    let (_, normalisers) = forward(&qkv, Some(&bias), dims).unwrap();
    let (grad_qkv, grad_bias) = backward(&grad, &qkv, Some(&bias), &normalisers, dims).unwrap();
    check_gradient(&qkv, &grad_qkv, |qkv| loss(qkv, &wide(&bias)));
    check_gradient(&bias, &grad_bias.unwrap(), |bias| loss(&wide(&qkv), bias));
}

#[test]
fn gradients_equal_finite_differences_with_fewer_queries() {
    let dims = small(3);
    let (q, kv) = (large_noise(1, 2 * 3 * 6), large_noise(2, 2 * 5 * 12));
    let (bias, grad) = (noise(3, 2 * 3 * 5), noise(4, 2 * 3 * 6));
    let [q64, kv64, bias64] = [&q, &kv, &bias].map(|values| wide(values));
    let loss = |y: Vec<f64>| y.iter().zip(&grad).map(|(y, &grad)| y * f64::from(grad)).sum();

    let (output, normalisers) = forward_cross(&q, &kv, Some(&bias), dims);
    assert_close(&output, &reference(&q64, &kv64, &bias64, dims), 1e-6);
    let (grad_q, grad_kv, grad_bias) = backward_cross(&grad, &q, &kv, Some(&bias), &normalisers, dims);
    check_gradient(&q, &grad_q, |q| loss(reference(q, &kv64, &bias64, dims)));
    check_gradient(&kv, &grad_kv, |kv| loss(reference(&q64, kv, &bias64, dims)));
    check_gradient(&bias, &grad_bias.unwrap(), |bias| loss(reference(&q64, &kv64, bias, dims)));
}

#[test]
fn more_queries_than_a_block_give_the_same_as_a_zero_bias() {
    let tokens = QUERIES + 9;
    let dims = Dims { batch: 1, queries: tokens, keys: tokens, heads: 2, head_dim: 12 };
    let (qkv, grad) = (noise(1, tokens * 72), noise(2, tokens * 24));
    let (q, kv) = unpack(&qkv, dims);
    let bias = vec![0.0; 2 * tokens * tokens];
    let (plain, normalisers) = forward(&qkv, None, dims).unwrap();
    let (biased, _) = forward(&qkv, Some(&bias), dims).unwrap();
    assert_close(&plain, &reference(&wide(&q), &wide(&kv), &wide(&bias), dims), 1e-6);
    assert_close(&biased, &wide(&plain), 1e-6);
    let (grad_plain, none) = backward(&grad, &qkv, None, &normalisers, dims).unwrap();
    let (grad_biased, _) = backward(&grad, &qkv, Some(&bias), &normalisers, dims).unwrap();
    assert_close(&grad_plain, &wide(&grad_biased), 1e-6);
    assert!(none.is_none());
}

#[test]
fn self_attention_is_attention_of_all_tokens_to_all() {
    let dims = Dims { batch: 2, queries: 19, keys: 19, heads: 3, head_dim: 8 };
    let (qkv, grad) = (noise(1, 2 * 19 * 72), noise(2, 2 * 19 * 24));
    let (q, kv) = unpack(&qkv, dims);
    let (output, normalisers) = forward(&qkv, None, dims).unwrap();
    let cross = forward_cross(&q, &kv, None, dims);
    assert_eq!((&output, &normalisers.0), (&cross.0, &cross.1));
    let (grad_qkv, _) = backward(&grad, &qkv, None, &normalisers, dims).unwrap();
    let (grad_q, grad_kv, _) = backward_cross(&grad, &q, &kv, None, &normalisers.0, dims);
    assert_eq!(unpack(&grad_qkv, dims), (grad_q.to_vec(), grad_kv.to_vec()));
}

#[test]
fn some_queries_give_their_rows_of_the_output() {
    let all = Dims { batch: 1, queries: 19, keys: 19, heads: 3, head_dim: 8 };
    let qkv = noise(1, 19 * 72);
    let (q, kv) = unpack(&qkv, all);
    let (output, _) = forward(&qkv, None, all).unwrap();
    let (last, _) = forward_cross(&q[12 * 24..], &kv, None, Dims { queries: 7, ..all });
    assert_eq!(output[12 * 24..], last[..]);
}

#[test]
fn no_queries_give_no_gradient() {
    let dims = small(0);
    let kv = noise(1, 2 * 5 * 12);
    let (output, normalisers) = forward_cross(&[], &kv, None, dims);
    assert!(output.is_empty() && normalisers.is_empty());
    let (grad_q, grad_kv, _) = backward_cross(&[], &[], &kv, None, &normalisers, dims);
    assert!(grad_q.is_empty());
    assert_eq!(grad_kv[..], vec![0.0; kv.len()]);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let dims = Dims { batch: 3, queries: 49, keys: 49, heads: 4, head_dim: 8 };
    let (qkv, grad) = (noise(1, 3 * 49 * 96), noise(2, 3 * 49 * 32));
    let bias = noise(3, 4 * 49 * 49);
    let all = |threads, bias: Option<&[f32]>| {
        on_threads(threads, || {
            let (output, normalisers) = forward(&qkv, bias, dims).unwrap();
            let grads = backward(&grad, &qkv, bias, &normalisers, dims).unwrap();
            (output, grads)
        })
    };
    assert_eq!(all(1, None), all(3, None));
    assert_eq!(all(1, Some(&bias)), all(3, Some(&bias)));
}
