//! Processes numbered items on several threads, and takes the results in order.
//!
//! Owns the threads and the order. Memory is bounded: no worker runs further than [`AHEAD`] items
//! ahead of the item whose result was taken last. The first error, from a worker or from `take`,
//! ends everything; no thread waits any more then.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Condvar, Mutex, PoisonError};

/// Most items between the one taken last and the foremost worker: enough to hide a slow item, 64
/// MiB at most with 1 MiB chunks.
pub const AHEAD: usize = 32;

/// Processes `items` on `threads` threads. `worker` makes one thread's function from item to
/// result; `take` gets every result in order, on the calling thread.
///
/// # Errors
/// The first error of a worker or of `take`.
pub fn in_order<T, E, W>(
    items: std::ops::Range<usize>,
    threads: usize,
    worker: impl Fn() -> Result<W, E> + Sync,
    mut take: impl FnMut(usize, T) -> Result<(), E>,
) -> Result<(), E>
where
    T: Send,
    E: Send,
    W: FnMut(usize) -> Result<T, E>,
{
    let (next, gate) = (AtomicUsize::new(items.start), Gate::new(items.start));
    let (sender, receiver) = sync_channel(AHEAD);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let sender = sender.clone();
            let (next, gate, worker) = (&next, &gate, &worker);
            let end = items.end;
            scope.spawn(move || {
                let mut work = match worker() {
                    Ok(work) => work,
                    Err(error) => {
                        let _ = sender.send((end, Err(error)));
                        return;
                    }
                };
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= end || !gate.wait_for(index) {
                        return;
                    }
                    let result = work(index);
                    let failed = result.is_err();
                    // The receiver is gone only when `take` failed; its error is the one to show.
                    if sender.send((index, result)).is_err() || failed {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut waiting: BTreeMap<usize, T> = BTreeMap::new();
        let mut due = items.start;
        let mut ended = Ok(());
        'all: for (index, result) in receiver {
            match result {
                Ok(value) => waiting.insert(index, value),
                Err(error) => {
                    ended = Err(error);
                    break;
                }
            };
            while let Some(value) = waiting.remove(&due) {
                if let Err(error) = take(due, value) {
                    ended = Err(error);
                    break 'all;
                }
                due += 1;
                gate.advance(due);
            }
        }
        // No worker may wait any more, whatever happened.
        gate.open();
        ended
    })
}

/// Limits how far workers run ahead.
struct Gate {
    state: Mutex<GateState>,
    moved: Condvar,
}

struct GateState {
    taken: usize,
    open: bool,
}

impl Gate {
    fn new(taken: usize) -> Self {
        let state = GateState { taken, open: false };
        Self {
            state: Mutex::new(state),
            moved: Condvar::new(),
        }
    }

    /// Blocks until item `index` is within reach; false when the work is over.
    fn wait_for(&self, index: usize) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self
            .moved
            .wait_while(state, |s| !s.open && index >= s.taken.saturating_add(AHEAD))
            .unwrap_or_else(PoisonError::into_inner);
        !state.open
    }

    fn advance(&self, taken: usize) {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .taken = taken;
        self.moved.notify_all();
    }

    fn open(&self) {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .open = true;
        self.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_nobody_runs_away() {
        let foremost = AtomicUsize::new(0);
        let mut taken = Vec::new();
        let done: Result<(), ()> = in_order(
            5..500,
            4,
            || {
                Ok(|index| {
                    foremost.fetch_max(index, Ordering::Relaxed);
                    Ok(index * 2)
                })
            },
            |index, value| {
                assert_eq!(value, index * 2);
                assert!(foremost.load(Ordering::Relaxed) < index + 1 + AHEAD);
                taken.push(index);
                Ok(())
            },
        );
        assert_eq!((done, taken), (Ok(()), (5..500).collect()));
    }

    #[test]
    fn the_first_error_ends_it_wherever_it_comes_from() {
        let nothing = |_, _: usize| Ok(());
        let failing = || {
            Ok(|index| {
                if index == 40 {
                    Err("worker")
                } else {
                    Ok(index)
                }
            })
        };
        assert_eq!(in_order(0..1000, 3, failing, nothing), Err("worker"));
        let fine = || Ok(Ok::<usize, &str>);
        let full = |index, _| if index == 7 { Err("taker") } else { Ok(()) };
        assert_eq!(in_order(0..1000, 3, fine, full), Err("taker"));
        let none = || Err::<fn(usize) -> Result<usize, &'static str>, _>("no worker");
        assert_eq!(in_order(0..10, 3, none, nothing), Err("no worker"));
        assert_eq!(in_order(3..3, 0, fine, nothing), Ok(()));
    }
}
