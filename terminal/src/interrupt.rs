//! Ctrl-C for commands that work in this process: the first one asks the work to stop, the second
//! ends it at once.

use api::ErrorCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A flag that is set by the first Ctrl-C or SIGTERM.
#[derive(Clone, Default)]
pub struct Interrupt {
    asked: Arc<AtomicBool>,
}

impl Interrupt {
    /// Starts listening, until the process ends.
    pub fn listen() -> Self {
        let interrupt = Self::default();
        let asked = Arc::clone(&interrupt.asked);
        std::thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
            else {
                return;
            };
            runtime.block_on(async {
                // One stream for both signals: a second one must not be lost between two streams.
                let mut signals = Signals::new();
                signals.next().await;
                asked.store(true, Ordering::Relaxed);
                signals.next().await;
                std::process::exit(i32::from(ErrorCode::Interrupted.exit_code()));
            });
        });
        interrupt
    }

    /// True after the first signal.
    pub fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

/// A stream of Ctrl-C and SIGTERM, from the moment it is made.
struct Signals {
    streams: Vec<Signal>,
}

impl Signals {
    fn new() -> Self {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate()];
        Self {
            streams: kinds
                .into_iter()
                .filter_map(|kind| signal(kind).ok())
                .collect(),
        }
    }

    /// Returns at the next signal.
    async fn next(&mut self) {
        std::future::poll_fn(|context| {
            let ready = |stream: &mut Signal| stream.poll_recv(context).is_ready();
            match self.streams.iter_mut().any(ready) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}

/// Returns at the next Ctrl-C or SIGTERM.
pub async fn wait() {
    Signals::new().next().await;
}
