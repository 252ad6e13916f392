use super::heads::QUERIES;
use super::positions::offsets;
use super::*;
use crate::testing::{assert_close, check_gradient, noise, on_threads, wide};

/// Of `q`, `kv` and the biases of all scores, `[B, H, M, N]`.
fn reference(q: &[f64], kv: &[f64], bias: Option<&[f64]>, dims: Dims) -> Vec<f64> {
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
                let bias = bias.map_or(0.0, |bias| bias[((b * heads + h) * queries + m) * keys + n]);
                (dot / (head_dim as f64).sqrt() + bias).exp()
            })
            .collect();
        let sum: f64 = exps.iter().sum();
        for (c, value) in output.iter_mut().enumerate() {
            *value = (0..keys).map(|n| exps[n] / sum * at(b, n, 1, h, c)).sum();
        }
    }
    output
}

/// The biases of all scores, `[B, H, N, N]`, by their definition: from a table of all offsets, or from those of rows and of columns.
/// One token more than the grid has is a cls token, whose rows are the last three.
fn biases(q: &[f64], tables: &[&[f64]], (rows, cols): (usize, usize), dims: Dims) -> Vec<f64> {
    let Dims { batch, keys, heads, head_dim, .. } = dims;
    let cls = keys - rows * cols;
    let bias = |at: usize| {
        let (b, h, m, n) = (at / keys / keys / heads, at / keys / keys % heads, at / keys % keys, at % keys);
        let of_cls = |row: usize| tables[0][(offsets((rows, cols)) + row) * heads + h];
        match (cls, m, n) {
            (1, 0, 0) => return of_cls(2),
            (1, 0, _) => return of_cls(0),
            (1, _, 0) => return of_cls(1),
            _ => {}
        }
        let (m, n) = (m - cls, n - cls);
        let (row, col) = (m / cols + rows - 1 - n / cols, m % cols + cols - 1 - n % cols);
        let q = &q[((b * keys + m) * heads + h) * head_dim..][..head_dim];
        let product = |table: &[f64], row: usize| -> f64 {
            q.iter().zip(&table[row * head_dim..]).map(|(q, embedding)| q * embedding).sum()
        };
        match *tables {
            [table] => table[(row * (2 * cols - 1) + col) * heads + h],
            [by_row, by_col] => product(by_row, row) + product(by_col, col),
            _ => unreachable!(),
        }
    };
    (0..batch * heads * keys * keys).map(bias).collect()
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

/// Tables of noise by relative position of both kinds, for a grid; of the first kind where there is a cls token, too.
fn tables(grid: (usize, usize), dims: Dims) -> Vec<Vec<Vec<f32>>> {
    let embeddings = |seed, side: usize| noise(seed, (2 * side - 1) * dims.head_dim);
    let cls_token = dims.keys > grid.0 * grid.1;
    let bias = vec![noise(2, bias_rows(grid, cls_token) * dims.heads)];
    match cls_token {
        true => vec![bias],
        false => vec![bias, vec![embeddings(3, grid.0), embeddings(4, grid.1)]],
    }
}

fn positions(grid: (usize, usize), tables: &[Vec<f32>], dims: Dims) -> RelativePositions<'_> {
    let cls_token = dims.keys > grid.0 * grid.1;
    let tables = match tables {
        [rows, cols] => PositionTables::Decomposed([rows.as_slice(), cols]),
        tables => PositionTables::Bias(tables[0].as_slice()),
    };
    RelativePositions { grid, cls_token, tables }
}

#[test]
fn with_positions_outputs_equal_their_definition_and_gradients_finite_differences() {
    for tokens in [6, 7] {
        positions_equal_their_definition((2, 3), tokens);
    }
}

fn positions_equal_their_definition(grid: (usize, usize), tokens: usize) {
    let dims = Dims { batch: 2, queries: tokens, keys: tokens, heads: 2, head_dim: 3 };
    let (qkv, grad) = (large_noise(1, 2 * tokens * 18), noise(5, 2 * tokens * 6));
    let output = |qkv: &[f64], tables: &[&[f64]]| {
        let tokens = qkv.chunks_exact(18).map(|token| token.split_at(6));
        let (q, kv): (Vec<_>, Vec<_>) = tokens.unzip();
        let (q, kv) = (q.concat(), kv.concat());
        reference(&q, &kv, Some(&biases(&q, tables, grid, dims)), dims)
    };
    let loss = |y: Vec<f64>| y.iter().zip(&grad).map(|(y, &grad)| y * f64::from(grad)).sum();

    for tables in tables(grid, dims) {
        let positions = positions(grid, &tables, dims);
        let wide_tables: Vec<Vec<f64>> = tables.iter().map(|table| wide(table)).collect();
        let wide_tables: Vec<&[f64]> = wide_tables.iter().map(|table| &**table).collect();
        let (own, normalisers) = forward(&qkv, Some(&positions), dims).unwrap();
        assert_close(&own, &output(&wide(&qkv), &wide_tables), 1e-6);
        let (grad_qkv, grads) = backward(&grad, &own, &qkv, Some(&positions), &normalisers, dims).unwrap();
        check_gradient(&qkv, &grad_qkv, |qkv| loss(output(qkv, &wide_tables)));
        assert_eq!(grads.len(), tables.len());
        for (at, grad) in grads.iter().enumerate() {
            check_gradient(&tables[at], grad, |table| {
                let mut tables = wide_tables.clone();
                tables[at] = table;
                loss(output(&wide(&qkv), &tables))
            });
        }
    }
}

#[test]
fn more_queries_than_a_block_have_their_own_positions() {
    let grid = (9, QUERIES / 8);
    for tokens in [grid.0 * grid.1, grid.0 * grid.1 + 1] {
        blocks_have_their_own_positions(grid, tokens);
    }
}

fn blocks_have_their_own_positions(grid: (usize, usize), tokens: usize) {
    let head_dim = 12;
    let dims = Dims { batch: 1, queries: tokens, keys: tokens, heads: 2, head_dim };
    let qkv = noise(1, tokens * 72);
    let (q, kv) = unpack(&qkv, dims);
    let [q, kv] = [wide(&q), wide(&kv)];
    for tables in tables(grid, dims) {
        let wide_tables: Vec<Vec<f64>> = tables.iter().map(|table| wide(table)).collect();
        let wide_tables: Vec<&[f64]> = wide_tables.iter().map(|table| &**table).collect();
        let (own, _) = forward(&qkv, Some(&positions(grid, &tables, dims)), dims).unwrap();
        assert_close(&own, &reference(&q, &kv, Some(&biases(&q, &wide_tables, grid, dims)), dims), 1e-6);
    }
}

#[test]
fn gradients_equal_finite_differences_with_fewer_queries() {
    let dims = small(3);
    let (q, kv) = (large_noise(1, 2 * 3 * 6), large_noise(2, 2 * 5 * 12));
    let grad = noise(4, 2 * 3 * 6);
    let [q64, kv64] = [&q, &kv].map(|values| wide(values));
    let loss = |y: Vec<f64>| y.iter().zip(&grad).map(|(y, &grad)| y * f64::from(grad)).sum();

    let (output, normalisers) = forward_cross(&q, &kv, dims);
    assert_close(&output, &reference(&q64, &kv64, None, dims), 1e-6);
    let (grad_q, grad_kv) = backward_cross(&grad, &output, &q, &kv, &normalisers, dims);
    check_gradient(&q, &grad_q, |q| loss(reference(q, &kv64, None, dims)));
    check_gradient(&kv, &grad_kv, |kv| loss(reference(&q64, kv, None, dims)));
}

#[test]
fn more_queries_than_a_block_give_the_same_as_a_bias_of_zeros() {
    let tokens = QUERIES + 9;
    let dims = Dims { batch: 1, queries: tokens, keys: tokens, heads: 2, head_dim: 12 };
    let (qkv, grad) = (noise(1, tokens * 72), noise(2, tokens * 24));
    let (q, kv) = unpack(&qkv, dims);
    let zeros = vec![vec![0.0; offsets((1, tokens)) * 2]];
    let zeros = positions((1, tokens), &zeros, dims);
    let (plain, normalisers) = forward(&qkv, None, dims).unwrap();
    let (biased, _) = forward(&qkv, Some(&zeros), dims).unwrap();
    assert_close(&plain, &reference(&wide(&q), &wide(&kv), None, dims), 1e-6);
    assert_close(&biased, &wide(&plain), 1e-6);
    let (grad_plain, none) = backward(&grad, &plain, &qkv, None, &normalisers, dims).unwrap();
    let (grad_biased, _) = backward(&grad, &biased, &qkv, Some(&zeros), &normalisers, dims).unwrap();
    assert_close(&grad_plain, &wide(&grad_biased), 1e-6);
    assert!(none.is_empty());
}

#[test]
fn self_attention_is_attention_of_all_tokens_to_all() {
    let dims = Dims { batch: 2, queries: 19, keys: 19, heads: 3, head_dim: 8 };
    let (qkv, grad) = (noise(1, 2 * 19 * 72), noise(2, 2 * 19 * 24));
    let (q, kv) = unpack(&qkv, dims);
    let (output, normalisers) = forward(&qkv, None, dims).unwrap();
    let cross = forward_cross(&q, &kv, dims);
    assert_eq!((&output, &normalisers.0), (&cross.0, &cross.1));
    let (grad_qkv, _) = backward(&grad, &output, &qkv, None, &normalisers, dims).unwrap();
    let (grad_q, grad_kv) = backward_cross(&grad, &output, &q, &kv, &normalisers.0, dims);
    assert_eq!(unpack(&grad_qkv, dims), (grad_q.to_vec(), grad_kv.to_vec()));
}

#[test]
fn some_queries_give_their_rows_of_the_output() {
    let all = Dims { batch: 1, queries: 19, keys: 19, heads: 3, head_dim: 8 };
    let qkv = noise(1, 19 * 72);
    let (q, kv) = unpack(&qkv, all);
    let (output, _) = forward(&qkv, None, all).unwrap();
    let (last, _) = forward_cross(&q[12 * 24..], &kv, Dims { queries: 7, ..all });
    assert_eq!(output[12 * 24..], last[..]);
}

#[test]
fn no_queries_give_no_gradient() {
    let dims = small(0);
    let kv = noise(1, 2 * 5 * 12);
    let (output, normalisers) = forward_cross(&[], &kv, dims);
    assert!(output.is_empty() && normalisers.is_empty());
    let (grad_q, grad_kv) = backward_cross(&[], &output, &[], &kv, &normalisers, dims);
    assert!(grad_q.is_empty());
    assert_eq!(grad_kv[..], vec![0.0; kv.len()]);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let dims = Dims { batch: 3, queries: 49, keys: 49, heads: 4, head_dim: 8 };
    let (qkv, grad) = (noise(1, 3 * 49 * 96), noise(2, 3 * 49 * 32));
    let all = |threads, positions: Option<&RelativePositions<'_>>| {
        on_threads(threads, || {
            let (output, normalisers) = forward(&qkv, positions, dims).unwrap();
            let grads = backward(&grad, &output, &qkv, positions, &normalisers, dims).unwrap();
            (output, grads)
        })
    };
    assert_eq!(all(1, None), all(3, None));
    for tables in tables((7, 7), dims) {
        let positions = positions((7, 7), &tables, dims);
        assert_eq!(all(1, Some(&positions)), all(3, Some(&positions)));
    }
}
