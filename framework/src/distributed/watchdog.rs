//! Gives up a process that waits in vain: for one that hangs, or whose machine is gone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// How often it is looked whether a process waits.
const LOOK: Duration = Duration::from_millis(100);

/// What counts between two looks at most: a process that stood still itself, and goes on, has not waited for others.
const MOST: Duration = Duration::from_secs(1);

/// Since when the process waits, if it does.
type Waiting = Mutex<Option<Instant>>;

/// Looks after the calls in which a process waits for others.
pub struct Watchdog(Arc<Waiting>);

impl Watchdog {
    /// Calls `give_up` when a call lasts longer than `limit`.
    pub fn new(limit: Duration, give_up: impl FnOnce() + Send + 'static) -> Self {
        let waiting = Arc::new(Waiting::default());
        let watched = Arc::downgrade(&waiting);
        // It ends with the watchdog; nobody waits for it.
        thread::spawn(move || {
            if lasts_longer(&watched, limit) {
                give_up();
            }
        });
        Self(waiting)
    }

    /// What `call` returns.
    pub fn watch<R>(&self, call: impl FnOnce() -> R) -> R {
        *locked(&self.0) = Some(Instant::now());
        let result = call();
        *locked(&self.0) = None;
        result
    }
}

/// Returns when a call lasts longer than `limit`, or nobody is watched any more.
fn lasts_longer(watched: &Weak<Waiting>, limit: Duration) -> bool {
    let (mut call, mut looked, mut waited) = (None, Instant::now(), Duration::ZERO);
    while let Some(waiting) = watched.upgrade() {
        let now = *locked(&waiting);
        drop(waiting);
        waited =
            if now.is_some() && now == call { waited + looked.elapsed().min(MOST) } else { Duration::ZERO };
        if waited > limit {
            return true;
        }
        (call, looked) = (now, Instant::now());
        thread::sleep(LOOK);
    }
    false
}

fn locked(waiting: &Waiting) -> MutexGuard<'_, Option<Instant>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_call_that_lasts_too_long_is_given_up() {
        let (tell, told) = mpsc::channel();
        let watchdog = Watchdog::new(Duration::from_millis(300), move || tell.send(()).unwrap());
        let result = watchdog.watch(|| told.recv_timeout(Duration::from_mins(1)));
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn short_calls_and_the_time_between_them_are_not() {
        let (tell, told) = mpsc::channel();
        let watchdog = Watchdog::new(Duration::from_millis(400), move || tell.send(()).unwrap());
        for _ in 0..3 {
            watchdog.watch(|| thread::sleep(Duration::from_millis(1)));
            thread::sleep(Duration::from_millis(300));
        }
        drop(watchdog);
        // The sender is gone with the thread, unused.
        assert_eq!(told.recv_timeout(Duration::from_mins(1)), Err(mpsc::RecvTimeoutError::Disconnected));
    }
}
