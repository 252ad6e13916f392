//! An ordered work queue: samples are made by several threads, batches come out in order.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Positions `0..end` in groups of a fixed size (the last may be smaller). Threads [`claim`](Self::claim)
/// single positions and [`deposit`](Self::deposit) parts; who completes a group makes the whole of it;
/// [`next`](Self::next) hands out wholes in order. Claims run at most `ahead` groups ahead of what was handed
/// out.
pub(super) struct Queue<Part, Whole> {
    end: usize,
    group_size: usize,
    ahead: usize,
    state: Mutex<State<Part, Whole>>,
    /// Something changed that a claiming thread may wait for.
    room: Condvar,
    /// Something changed that the consumer may wait for.
    ready: Condvar,
}

struct State<Part, Whole> {
    /// The next position to be claimed.
    position: usize,
    /// The group that is handed out next: the first of `groups`.
    first: usize,
    groups: VecDeque<Group<Part, Whole>>,
    stopped: bool,
}

enum Group<Part, Whole> {
    Filling { parts: Vec<Option<Part>>, missing: usize },
    Whole(Option<Whole>),
}

/// A position to be worked on.
pub(super) struct Claim {
    /// The position.
    pub position: usize,
    /// The group that it belongs to.
    pub group: usize,
}

impl<Part, Whole> Queue<Part, Whole> {
    /// A queue of all of them.
    pub fn new(end: usize, group_size: usize, ahead: usize) -> Self {
        let state = State { position: 0, first: 0, groups: VecDeque::new(), stopped: false };
        Self { end, group_size, ahead, state: Mutex::new(state), room: Condvar::new(), ready: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<Part, Whole>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The positions of a claim's group.
    pub fn positions(&self, claim: &Claim) -> Range<usize> {
        let start = claim.group * self.group_size;
        start..self.end.min(start + self.group_size)
    }

    /// The next position to work on; waits while too far ahead. None when there is nothing left to do.
    pub fn claim(&self) -> Option<Claim> {
        let mut state = self.lock();
        loop {
            if state.stopped || state.position >= self.end {
                return None;
            }
            let position = state.position;
            let group = position / self.group_size;
            let claim = Claim { position, group };
            if group < state.first + self.ahead {
                state.position += 1;
                if group - state.first == state.groups.len() {
                    let missing = self.positions(&claim).len();
                    let parts = (0..missing).map(|_| None).collect();
                    state.groups.push_back(Group::Filling { parts, missing });
                }
                return Some(claim);
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Puts down the part for a claim. All parts of the group if this was the last: the caller then owes the
    /// whole.
    pub fn deposit(&self, claim: &Claim, part: Part) -> Option<Vec<Part>> {
        let mut state = self.lock();
        let first = state.first;
        let group = state.groups.get_mut(claim.group - first)?;
        let Group::Filling { parts, missing } = group else { return None };
        parts[claim.position % self.group_size] = Some(part);
        *missing -= 1;
        if *missing > 0 {
            return None;
        }
        let parts = std::mem::take(parts);
        *group = Group::Whole(None);
        Some(parts.into_iter().flatten().collect())
    }

    /// Puts down the whole of a claim's group.
    pub fn finish(&self, claim: &Claim, whole: Whole) {
        let mut state = self.lock();
        let first = state.first;
        if let Some(group) = state.groups.get_mut(claim.group - first) {
            *group = Group::Whole(Some(whole));
        }
        self.ready.notify_all();
    }

    /// The next whole; waits for it. None after the last, or when stopped.
    pub fn next(&self) -> Option<Whole> {
        let mut state = self.lock();
        loop {
            if state.stopped || state.first.saturating_mul(self.group_size) >= self.end {
                return None;
            }
            if let Some(whole) = self.take_first(&mut state) {
                return Some(whole);
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next whole, if it is there.
    pub fn try_next(&self) -> Option<Whole> {
        let mut state = self.lock();
        if state.stopped { None } else { self.take_first(&mut state) }
    }

    fn take_first(&self, state: &mut State<Part, Whole>) -> Option<Whole> {
        let Some(Group::Whole(whole)) = state.groups.front_mut() else { return None };
        let whole = whole.take()?;
        state.groups.pop_front();
        state.first += 1;
        self.room.notify_all();
        Some(whole)
    }

    /// Hands out nothing more, neither work nor results.
    pub fn stop(&self) {
        self.lock().stopped = true;
        self.room.notify_all();
        self.ready.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(queue: &Queue<usize, Vec<usize>>) {
        while let Some(claim) = queue.claim() {
            if let Some(parts) = queue.deposit(&claim, claim.position) {
                queue.finish(&claim, parts);
            }
        }
    }

    #[test]
    fn wholes_come_in_order() {
        let queue = Queue::new(8, 3, 2);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| work(&queue));
            }
            assert_eq!(queue.next(), Some(vec![0, 1, 2]));
            assert_eq!(queue.next(), Some(vec![3, 4, 5]));
            assert_eq!(queue.next(), Some(vec![6, 7]));
            assert_eq!(queue.next(), None);
        });
    }

    #[test]
    fn who_does_not_wait_gets_what_is_there() {
        let queue: Queue<usize, Vec<usize>> = Queue::new(4, 2, 2);
        let first = queue.claim().unwrap();
        assert_eq!(queue.deposit(&first, 0), None);
        assert_eq!(queue.try_next(), None);
        let second = queue.claim().unwrap();
        let parts = queue.deposit(&second, 1).unwrap();
        assert_eq!(queue.try_next(), None);
        queue.finish(&second, parts);
        assert_eq!(queue.try_next(), Some(vec![0, 1]));
        queue.stop();
        assert_eq!(queue.try_next(), None);
    }

    #[test]
    fn claims_run_ahead_no_further_than_allowed() {
        let queue: Queue<usize, Vec<usize>> = Queue::new(100, 2, 2);
        let claimed: Vec<_> = (0..4).filter_map(|_| queue.claim()).map(|claim| claim.position).collect();
        assert_eq!(claimed, [0, 1, 2, 3]);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.claim().map(|claim| claim.position));
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!waiting.is_finished());
            queue.stop();
            assert_eq!(waiting.join().ok().flatten(), None);
        });
    }
}
