//! Reads back written chunks behind the writers, and searches for chunks that the disk holds
//! already.
//!
//! ```text
//! written ----(64 MiB, or a second)----> flush --> ready --> read, hash, compare --> proven
//! searched (reuse, resume) --------------------------------> read, hash, compare --> proven | absent
//! ```
//!
//! Owns a few threads and the set of proven chunks. Always holds: a chunk is read back only after a
//! flush that followed its writing; a [`Proof`] is made only when every chosen chunk of the
//! manifest was read by this process and had the content id of the manifest. The proof is ready
//! almost as soon as the last chunk is written: it costs no pass of its own.

use super::buffer::AlignedBuffer;
use super::deployment::{Deployment, Proof};
use super::journal::{Bitmap, Journal};
use super::{Cancelled, DiskError, OnProgress};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Written bytes after which a flush is due: half a second of a hard disk.
const BATCH_BYTES: u64 = 64 << 20;
/// Number of ticks after which fewer bytes are flushed too.
const QUIET_TICKS: u32 = 5;
/// Interval of the timer; also the greatest age of the journal.
const TICK: Duration = Duration::from_millis(200);

/// Receives the result for each chunk that was searched for: its entry, and whether the disk has
/// it.
pub type OnFound = Box<dyn Fn(usize, bool) + Send + Sync>;

/// Threads that read back behind the writers. Dropping it ends them.
pub struct ReadBack {
    shared: Arc<Shared>,
}

struct Shared {
    deployment: Arc<Deployment>,
    state: Mutex<State>,
    changed: Condvar,
    found: OnFound,
    proven_bytes: AtomicU64,
}

struct State {
    /// Entries written since the last flush.
    unflushed: Vec<usize>,
    unflushed_bytes: u64,
    /// Ticks since a write that is not flushed.
    waited: u32,
    flushing: bool,
    /// Flushed entries, to be read back.
    ready: VecDeque<usize>,
    /// Entries that may be on the disk since earlier, ascending.
    look: VecDeque<usize>,
    proven: Bitmap,
    /// Entries for the journal: written, or assumed to be there.
    claimed: Bitmap,
    claims_saved: bool,
    journal: Option<Journal>,
    /// True when nothing more will be written.
    closing: bool,
    stopped: bool,
    /// Number of busy threads.
    running: usize,
    failure: Option<DiskError>,
}

impl ReadBack {
    /// Starts `threads` threads. `look` are entries that may be on the disk already, ascending;
    /// `found` gets the result for each.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(
        deployment: &Arc<Deployment>,
        threads: usize,
        journal: Option<Journal>,
        look: Vec<usize>,
        found: OnFound,
    ) -> std::io::Result<Self> {
        let entries = deployment.manifest().entries.len();
        let mut claimed = Bitmap::empty(entries);
        for entry in &look {
            claimed.insert(*entry);
        }
        let shared = Arc::new(Shared {
            deployment: Arc::clone(deployment),
            state: Mutex::new(State {
                unflushed: Vec::new(),
                unflushed_bytes: 0,
                waited: 0,
                flushing: false,
                ready: VecDeque::new(),
                look: look.into(),
                proven: Bitmap::empty(entries),
                claimed,
                claims_saved: false,
                journal,
                closing: false,
                stopped: false,
                running: 0,
                failure: None,
            }),
            changed: Condvar::new(),
            found,
            proven_bytes: AtomicU64::new(0),
        });
        let started = Self { shared };
        for number in 0..threads.max(1) {
            let running = Running::new(&started.shared);
            std::thread::Builder::new()
                .name(format!("read-back-{number}"))
                .spawn(move || running.0.work())?;
        }
        Ok(started)
    }

    /// Records that entry `index` is written.
    pub fn written(&self, index: usize) {
        // Held in memory until the end, and read back once it is on the disk.
        if self.shared.deployment.front_entries().contains(&index) {
            return;
        }
        let mut state = self.shared.lock();
        state.wrote(&self.shared.deployment, index);
        if state.unflushed_bytes >= BATCH_BYTES {
            self.shared.changed.notify_one();
        }
    }

    /// Device bytes read back and equal so far.
    pub fn proven_bytes(&self) -> u64 {
        self.shared.proven_bytes.load(Ordering::Relaxed)
    }

    /// Takes the failure that ended the work.
    pub fn take_failure(&self) -> Option<DiskError> {
        self.shared.lock().failure.take()
    }

    /// Finishes after the last write: writes the first MiB to the disk, and waits until the last
    /// chunk is read back.
    ///
    /// # Errors
    /// [`DiskError::Mismatch`] with the chunk, [`DiskError::Read`], [`DiskError::Write`],
    /// [`DiskError::Cancelled`].
    pub fn finish(&self, progress: OnProgress, cancelled: Cancelled) -> Result<Proof, DiskError> {
        let deployment = Arc::clone(&self.shared.deployment);
        let total = deployment.total_bytes();
        // From here on the first MiB is the image's: the journal is not written any more.
        self.shared.lock().journal = None;
        deployment.write_front()?;
        {
            let mut state = self.shared.lock();
            for index in deployment.front_entries().filter(|i| deployment.wants(*i)) {
                state.wrote(&deployment, index);
            }
            state.closing = true;
            self.shared.changed.notify_all();
        }
        let mut state = self.shared.lock();
        while state.running > 0 {
            // Threads signal their end; the timeout is for progress and cancelling.
            state = self.shared.wait(state);
            progress(self.proven_bytes().min(total), total);
            if cancelled() {
                return Err(DiskError::Cancelled);
            }
        }
        if let Some(failure) = state.failure.take() {
            return Err(failure);
        }
        deployment.prove_blank(cancelled)?;
        progress(total, total);
        deployment.proof(&state.proven)
    }
}

impl Drop for ReadBack {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
    }
}

/// A busy thread, counted until it ends in any way. One that panicked has proven nothing, so the
/// proof is not made.
struct Running(Arc<Shared>);

impl Running {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.lock().running += 1;
        Self(Arc::clone(shared))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
        self.0.changed.notify_all();
    }
}

/// The next work of a thread.
enum Task {
    Prove(usize),
    Look(usize),
    Flush(Vec<usize>),
    End,
}

impl State {
    fn wrote(&mut self, deployment: &Deployment, index: usize) {
        self.unflushed.push(index);
        self.unflushed_bytes += deployment.entry_bytes(index);
        self.claims_saved &= !self.claimed.insert(index);
    }

    /// The next task; `None` means to wait.
    fn next(&mut self) -> Option<Task> {
        if self.stopped || self.failure.is_some() {
            return Some(Task::End);
        }
        if let Some(index) = self.ready.pop_front() {
            return Some(Task::Prove(index));
        }
        let due = self.closing || self.unflushed_bytes >= BATCH_BYTES || self.waited >= QUIET_TICKS;
        if due && !self.flushing && !self.unflushed.is_empty() {
            self.flushing = true;
            self.waited = 0;
            self.unflushed_bytes = 0;
            return Some(Task::Flush(std::mem::take(&mut self.unflushed)));
        }
        if let Some(index) = self.look.pop_front() {
            return Some(Task::Look(index));
        }
        (self.closing && !self.flushing && self.unflushed.is_empty()).then_some(Task::End)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        self.changed
            .wait_timeout(state, TICK)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    fn work(&self) {
        let chunk = self.deployment.manifest().geometry.chunk_size() as usize;
        let mut buffer = AlignedBuffer::new(chunk);
        loop {
            let task = {
                let mut state = self.lock();
                loop {
                    if let Some(task) = state.next() {
                        break task;
                    }
                    state = self.wait(state);
                    self.save_journal(&mut state);
                    if !state.unflushed.is_empty() {
                        state.waited += 1;
                    }
                }
            };
            match task {
                Task::End => break,
                Task::Prove(index) => self.prove(index, &mut buffer),
                Task::Look(index) => self.look(index, &mut buffer),
                Task::Flush(batch) => self.flush(batch),
            }
        }
    }

    fn prove(&self, index: usize, buffer: &mut AlignedBuffer) {
        match self.deployment.read_back(index, buffer.bytes_mut()) {
            Ok(true) => self.proven(index),
            Ok(false) => self.fail(self.deployment.mismatch(index)),
            Err(error) => self.fail(error),
        }
    }

    fn look(&self, index: usize, buffer: &mut AlignedBuffer) {
        if self.lock().proven.contains(index) {
            return;
        }
        // An unreadable chunk counts as absent; writing it will show whether the disk is failing.
        let there = matches!(
            self.deployment.read_back(index, buffer.bytes_mut()),
            Ok(true)
        );
        if there {
            self.proven(index);
        }
        (self.found)(index, there);
        let mut state = self.lock();
        self.save_journal(&mut state);
    }

    fn proven(&self, index: usize) {
        let mut state = self.lock();
        if state.proven.insert(index) {
            let bytes = self.deployment.entry_bytes(index);
            self.proven_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn flush(&self, mut batch: Vec<usize>) {
        let flushed = self.deployment.flush();
        // In the order of the disk, so that heads move across it once.
        batch.sort_unstable();
        batch.dedup();
        let mut state = self.lock();
        state.flushing = false;
        match flushed {
            Ok(()) => state.ready.extend(batch),
            Err(error) => {
                state.failure.get_or_insert(error);
            }
        }
        self.changed.notify_all();
    }

    fn fail(&self, error: DiskError) {
        self.lock().failure.get_or_insert(error);
        self.changed.notify_all();
    }

    /// Writes the journal if it is behind. An error is ignored: if the disk fails, the job soon
    /// fails by itself.
    fn save_journal(&self, state: &mut State) {
        let State {
            journal: Some(journal),
            claimed,
            claims_saved,
            ..
        } = state
        else {
            return;
        };
        if !*claims_saved {
            match journal.save(self.deployment.target(), claimed) {
                Ok(()) => *claims_saved = true,
                Err(error) => tracing::debug!(error = %error.full(), "journal not saved"),
            }
        }
    }
}
