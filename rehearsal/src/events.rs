//! What happens when: a queue in order of time, and of asking where times are equal.

use multicast::{BlockKey, Status, Transmit};
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Packets in a row: `count` of them, numbers and symbols going up by one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) first: Transmit,
    pub(crate) count: u16,
}

/// Something that happens. Targets are numbered as in the room; what belongs to an earlier life
/// of a target or of the console is void.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Join(u32),
    Crash(u32),
    ConsoleRestart,
    Rejoin(u32),
    /// What a life of the console sent in the last moments reaches everybody.
    Parcel {
        console: u32,
    },
    /// Packets of an earlier life of the console reach everybody.
    Stale {
        console: u32,
        rows: Vec<Row>,
    },
    /// One packet reaches one target, late or a second time.
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
    /// Earliest is greatest: a heap gives out the greatest.
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

    /// The next event when it is due at `now_us`.
    pub(crate) fn pop_due(&mut self, now_us: u64) -> Option<Event> {
        if self.next_at()? > now_us {
            return None;
        }
        self.heap.pop().map(|entry| entry.event)
    }
}
