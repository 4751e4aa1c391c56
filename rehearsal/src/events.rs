//! The event queue: events in order of time, and in order of insertion for equal times.

use multicast::{BlockKey, Status, Transmit};
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A row of `count` packets, with numbers and symbols that go up by one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) first: Transmit,
    pub(crate) count: u16,
}

/// An event. Targets are numbered as in the room. An event of an earlier life of a target or of the
/// console is ignored.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Join(u32),
    Crash(u32),
    ConsoleRestart,
    Rejoin(u32),
    /// The packets sent by one life of the console in the last interval reach every target.
    Parcel {
        console: u32,
    },
    /// Packets of an earlier life of the console reach every target.
    Stale {
        console: u32,
        rows: Vec<Row>,
    },
    /// One packet reaches one target, late or for the second time.
    Packet {
        target: u32,
        life: u32,
        packet: Transmit,
    },
    Status {
        target: u32,
        life: u32,
        status: Box<Status>,
    },
    Wake {
        target: u32,
        life: u32,
    },
    Open {
        target: u32,
        life: u32,
    },
    Written {
        target: u32,
        life: u32,
        block: BlockKey,
    },
    Bulk {
        target: u32,
        life: u32,
        block: BlockKey,
    },
    Looked {
        target: u32,
        life: u32,
        block: BlockKey,
    },
}

#[derive(Debug)]
struct Entry {
    at_us: u64,
    order: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// The earliest entry is the greatest, because a heap returns the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_us, other.order).cmp(&(self.at_us, self.order))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Entry>,
    order: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at_us: u64, event: Event) {
        self.heap.push(Entry {
            at_us,
            order: self.order,
            event,
        });
        self.order += 1;
    }

    pub(crate) fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|entry| entry.at_us)
    }

    /// Removes and returns the next event if it is due at `now_us`.
    pub(crate) fn pop_due(&mut self, now_us: u64) -> Option<Event> {
        if self.next_at()? > now_us {
            return None;
        }
        self.heap.pop().map(|entry| entry.event)
    }
}
