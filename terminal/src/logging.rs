//! Output of `tracing`: stderr, through the [`Output`], so that a log line never tears a bar.

use crate::output::Output;
use std::io::Write;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The level of logging without `-v`.
pub enum Usual {
    /// Warnings, for commands: their own output shows their work.
    Warnings,
    /// Events, for `console run` and the agent: their log is their output.
    Events,
}

/// Starts logging, once for each process. `DISKCAST_LOG` overrides the level with a filter such as
/// `net=trace`.
pub fn start(out: &Output, usual: &Usual) {
    let level = match (usual, out.quiet(), out.verbose()) {
        (_, true, _) => "error".to_owned(),
        (Usual::Warnings, _, 0) => "warn".to_owned(),
        (Usual::Events, _, 0) | (Usual::Warnings, _, 1) => own("info", "warn"),
        (Usual::Events, _, 1) | (_, _, 2) => own("debug", "info"),
        _ => own("trace", "debug"),
    };
    let filter = EnvFilter::try_from_env("DISKCAST_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(false)
        .with_writer(Lines(out.clone()))
        .finish();
    // A second call in one process (the demo's inner parts) keeps the first subscriber.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Crates of diskcast that write events. A test of `xtask` holds the list to the manifests.
const OWN: [&str; 8] = [
    "agent", "apply", "console", "disk", "diskcast", "net", "preos", "pxe",
];

/// Filter with one level for the crates of diskcast and another for all others.
fn own(ours: &str, others: &str) -> String {
    let ours = OWN.map(|name| format!("{name}={ours}"));
    format!("{},{others}", ours.join(","))
}

struct Lines(Output);

/// One log line, which goes to the output when it is complete.
struct Line {
    out: Output,
    bytes: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line {
            out: self.0.clone(),
            bytes: Vec::with_capacity(160),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.bytes);
        let text = text.trim_end_matches('\n');
        if !text.is_empty() {
            self.out.stderr(text);
        }
    }
}
