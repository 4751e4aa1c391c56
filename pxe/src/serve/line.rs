//! A queue for large files, and the body of a file sent by HTTP.
//!
//! A room that is switched on at once needs 34 MB for each machine. If all were served together,
//! all would be slow and firmware would give up; so a fixed number of files are sent, and the other
//! connections wait open. A place is taken back after a while even when the transfer goes on: a
//! machine that reads slowly delays nobody else.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Large files sent at once. On 1 Gbit/s each gets 60 Mbit/s, and 34 MB take five seconds.
const PLACES: usize = 16;
/// Time a transfer keeps its place: enough for a kernel at 10 Mbit/s.
const PLACE_FOR: Duration = Duration::from_secs(20);
/// Longest wait for a place. After it the transfer starts without one.
const WAIT_FOR: Duration = Duration::from_secs(300);
/// Size in bytes from which files wait. Loaders are smaller: firmware gives up on them within five
/// seconds.
const LARGE_BYTES: usize = 2 << 20;
/// Bytes handed to the socket at a time.
const PIECE_BYTES: usize = 256 << 10;

/// Progress counter of a connection: it changes while the connection is alive.
pub(super) type Progress = Arc<AtomicU64>;

/// The queue for large files.
#[derive(Clone, Debug)]
pub(super) struct Line(Arc<Semaphore>);

impl Default for Line {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PLACES)))
    }
}

/// A place at the front of the queue.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    until: Instant,
}

impl Line {
    /// Waits for a place if the file is large. `None` for small files and after [`WAIT_FOR`].
    pub(super) async fn place(&self, bytes: usize, progress: &Progress) -> Option<Place> {
        if bytes < LARGE_BYTES {
            return None;
        }
        let waiting_since = Instant::now();
        let mut turn = std::pin::pin!(Arc::clone(&self.0).acquire_owned());
        while waiting_since.elapsed() < WAIT_FOR {
            // A waiting connection counts as alive, though no bytes move.
            progress.fetch_add(1, Ordering::Relaxed);
            if let Ok(permit) = tokio::time::timeout(Duration::from_secs(5), turn.as_mut()).await {
                return Some(Place {
                    _permit: permit.ok()?,
                    until: Instant::now() + PLACE_FOR,
                });
            }
        }
        None
    }
}

/// The body of a response.
pub(super) struct FileBody {
    pub(super) rest: Bytes,
    pub(super) place: Option<Place>,
    pub(super) progress: Progress,
    /// Called when everything has been handed to the socket.
    pub(super) whole: Option<Box<dyn FnOnce() + Send>>,
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        self.progress.fetch_add(1, Ordering::Relaxed);
        if self
            .place
            .as_ref()
            .is_some_and(|place| Instant::now() >= place.until)
        {
            self.place = None;
        }
        let piece = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(piece);
        if self.rest.is_empty()
            && let Some(whole) = self.whole.take()
        {
            whole();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_rest_wait_and_nobody_waits_for_ever() {
        let line = Line::default();
        let progress = Progress::default();
        assert!(line.place(LARGE_BYTES - 1, &progress).await.is_none());
        let mut places = Vec::new();
        for _ in 0..PLACES {
            places.push(
                line.place(LARGE_BYTES, &progress)
                    .await
                    .expect("a place is free"),
            );
        }
        let waited =
            tokio::time::timeout(Duration::from_secs(60), line.place(LARGE_BYTES, &progress));
        assert!(waited.await.is_err());
        assert!(
            progress.load(Ordering::Relaxed) > 10,
            "whoever waits counts as alive"
        );
        places.pop();
        assert!(line.place(LARGE_BYTES, &progress).await.is_some());
        // A slow reader gives its place up with the next piece.
        let body = FileBody {
            rest: Bytes::from_static(&[0; PIECE_BYTES + 1]),
            place: places.pop(),
            progress: Progress::default(),
            whole: None,
        };
        let mut body = std::pin::pin!(body);
        tokio::time::advance(PLACE_FOR).await;
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(body.as_mut().poll_frame(&mut context).is_ready());
        assert!(body.place.is_none() && body.size_hint().exact() == Some(1));
    }
}
