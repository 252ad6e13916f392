//! Where the time of a step goes: by phase, by node of the graph, by kernel.
//!
//! Spans nest, and a span's own time is what the spans within it leave; all times together are that of the outermost span.
//! Profiling is on between [`start`] and [`finish`] on one thread; elsewhere a span is a look at a thread-local variable.
//!
//! A card works while the host goes on, so spans wait for it where they begin and end. That costs itself: a step is slower while it
//! is profiled.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::device;

thread_local! {
    static PROFILE: RefCell<Option<Profile>> = const { RefCell::new(None) };
}

/// Where a cost arises.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// `forward`, `backward`, `optimizer`; empty outside of all phases.
    pub phase: &'static str,
    /// The node of the graph; empty outside of all nodes.
    pub node: Rc<str>,
    /// The kernel; empty for what no kernel does: copies and bookkeeping.
    pub kernel: &'static str,
}

/// What something costs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Wall-clock time.
    pub time: Duration,
    /// How often it ran.
    pub calls: u64,
    /// Floating-point operations, where the kernel counts them.
    pub flops: u64,
}

/// Costs by place.
#[derive(Debug, Default)]
pub struct Profile {
    /// The costs.
    pub costs: BTreeMap<Place, Cost>,
    spans: Vec<Open>,
}

/// A span that has not ended.
#[derive(Debug)]
struct Open {
    label: Label,
    started: Instant,
    /// Time of the spans within.
    inner: Duration,
    flops: u64,
}

#[derive(Debug)]
enum Label {
    Phase(&'static str),
    Node(Rc<str>),
    Kernel(&'static str),
}

/// Waits for the device, so that work is counted where it was asked for.
fn settle() {
    // What failed on the device fails in the next operation, too, which says so.
    let _ = device::synchronize();
}

/// Starts profiling on this thread.
pub fn start() {
    PROFILE.set(Some(Profile::default()));
}

/// Ends profiling; the costs since [`start`].
pub fn finish() -> Profile {
    PROFILE.take().unwrap_or_default()
}

/// A phase of the step, until the span is dropped.
pub fn phase(name: &'static str) -> Span {
    Span::open(|| Label::Phase(name), 0)
}

/// A node of the graph.
pub fn node(name: &str) -> Span {
    Span::open(|| Label::Node(name.into()), 0)
}

/// A kernel.
pub fn kernel(name: &'static str) -> Span {
    Span::open(|| Label::Kernel(name), 0)
}

/// A matrix product of `m * n * k` multiply-accumulates.
pub fn matmul(m: usize, n: usize, k: usize) -> Span {
    Span::open(|| Label::Kernel("matmul"), 2 * (m * n * k) as u64)
}

/// The node whose span is open.
pub fn current_node() -> Option<Rc<str>> {
    PROFILE.with_borrow(|profile| Some(profile.as_ref()?.node()))
}

/// Ends when it is dropped.
#[must_use]
#[derive(Debug)]
pub struct Span {
    recorded: bool,
}

impl Span {
    fn open(label: impl FnOnce() -> Label, flops: u64) -> Self {
        PROFILE.with_borrow_mut(|profile| {
            let recorded = profile.is_some();
            if let Some(profile) = profile {
                let label = label();
                settle();
                profile.spans.push(Open { label, started: Instant::now(), inner: Duration::ZERO, flops });
            }
            Self { recorded }
        })
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if self.recorded {
            PROFILE.with_borrow_mut(|profile| profile.as_mut().map(Profile::close));
        }
    }
}

impl Profile {
    fn node(&self) -> Rc<str> {
        let node = |open: &Open| match &open.label {
            Label::Node(name) => Some(Rc::clone(name)),
            _ => None,
        };
        self.spans.iter().rev().find_map(node).unwrap_or_else(|| "".into())
    }

    fn phase(&self) -> &'static str {
        let phase = |open: &Open| match open.label {
            Label::Phase(name) => Some(name),
            _ => None,
        };
        self.spans.iter().rev().find_map(phase).unwrap_or_default()
    }

    fn close(&mut self) {
        let (phase, node) = (self.phase(), self.node());
        let Some(open) = self.spans.pop() else { return };
        settle();
        let time = open.started.elapsed();
        if let Some(outer) = self.spans.last_mut() {
            outer.inner += time;
        }
        let kernel = match open.label {
            Label::Kernel(name) => name,
            _ => "",
        };
        let cost = self.costs.entry(Place { phase, node, kernel }).or_default();
        cost.time += time.saturating_sub(open.inner);
        cost.calls += 1;
        cost.flops += open.flops;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_counts_its_own_time_only() {
        start();
        let whole = Instant::now();
        {
            let _phase = phase("forward");
            let _node = node("backbone");
            std::thread::sleep(Duration::from_millis(2));
            let _kernel = matmul(2, 3, 4);
            std::thread::sleep(Duration::from_millis(3));
        }
        let (whole, costs) = (whole.elapsed(), finish().costs);
        let total: Duration = costs.values().map(|cost| cost.time).sum();
        assert!(total <= whole && total >= Duration::from_millis(5), "{costs:?}");
        let place = |kernel| Place { phase: "forward", node: "backbone".into(), kernel };
        let (matmul, rest) = (costs[&place("matmul")], costs[&place("")]);
        assert_eq!((matmul.calls, matmul.flops), (1, 48));
        assert!(matmul.time >= Duration::from_millis(3) && rest.time >= Duration::from_millis(2));
    }

    #[test]
    fn nothing_is_recorded_when_profiling_is_off() {
        drop(kernel("matmul"));
        assert!(finish().costs.is_empty());
    }
}
