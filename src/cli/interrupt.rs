//! Ctrl-C for commands that work in this process: the first asks the work to stop, the second ends it at once.

use crate::console::api::ErrorCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once somebody pressed Ctrl-C or sent SIGTERM.
#[derive(Clone, Default)]
pub struct Interrupt {
    asked: Arc<AtomicBool>,
}

impl Interrupt {
    /// Starts listening for the rest of the process's life.
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
                wait().await;
                asked.store(true, Ordering::Relaxed);
                wait().await;
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

/// Returns at the next Ctrl-C or SIGTERM.
pub async fn wait() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        },
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}
