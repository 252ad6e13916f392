/// The learning rate at `position` of a schedule that rises linearly until `end`: from a fraction, `factor`,
/// of what the schedule starts with to what it gives there. Lengths are in any unit (fvcore's
/// `WarmupParamScheduler` with the method `linear`).
pub(super) fn warm_up(position: f64, end: f64, factor: f64, lr: impl Fn(f64) -> f64) -> f64 {
    if position >= end {
        return lr(position);
    }
    let (from, to) = (factor * lr(0.0), lr(end));
    from + (to - from) * position / end
}
