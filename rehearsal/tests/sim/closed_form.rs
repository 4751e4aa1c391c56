//! The lowest possible cost of loss, from a formula.

/// Expected number of transmissions for each of `k` symbols until each of `receivers` has `k`
/// symbols, if each loses `loss_ppm` independently: `E[max over N of (k + NegBin(k, 1-p))] / k`.
/// The expectation is the sum over `j` of the probability that a receiver needs more than `j` extra
/// symbols.
pub(crate) fn transmissions(receivers: usize, loss_ppm: u64, k: u16) -> f64 {
    let p = loss_ppm as f64 / 1e6;
    // P(exactly j losses before the k-th arrival) = C(k + j - 1, j) p^j (1-p)^k, computed step by
    // step.
    let mut exactly = (1.0 - p).powi(i32::from(k));
    let (mut at_most, mut extra) = (0.0, 0.0);
    for j in 0..100 * u32::from(k) {
        at_most += exactly;
        let more = 1.0 - at_most.min(1.0).powi(receivers as i32);
        extra += more;
        if more < 1e-12 {
            break;
        }
        exactly *= p * f64::from(u32::from(k) + j) / f64::from(j + 1);
    }
    1.0 + extra / f64::from(k)
}

#[test]
fn agrees_with_what_is_known() {
    // One receiver needs 1 / (1 - p); the other values are from the tables of the protocol's
    // calculations.
    for (receivers, loss, expected) in [
        (1, 10_000, 1.0 / 0.99),
        (1, 50_000, 1.0 / 0.95),
        (10, 10_000, 1.0161),
        (200, 1_000, 1.0053),
        (200, 10_000, 1.0216),
        (1_000, 50_000, 1.0829),
    ] {
        let computed = transmissions(receivers, loss, 745);
        assert!(
            (computed - expected).abs() < 6e-5,
            "{receivers} {loss}: {computed}"
        );
    }
}
