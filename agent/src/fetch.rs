//! Fetches over TCP 5003 for a job: one batch at a time, tried again while the console is away.

use super::bulk::{BulkClient, BulkError};
use std::ops::RangeInclusive;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// First and longest pause between two tries.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));
/// Tries in a row that may fail before the fetch is given up: about ten minutes.
const TRIES: u32 = 200;

/// A result for the job.
pub(super) enum Fetched {
    /// The encoded manifest.
    Manifest(Vec<u8>),
    /// One image block.
    Block(u32, Vec<u8>),
    /// The whole batch was handed over.
    BatchEnd,
    /// The fetch was given up; the reason.
    Failed(String),
}

enum Request {
    Manifest(u64),
    Blocks(Vec<u32>),
}

/// Handle on the task that fetches; dropping it ends the task.
pub(super) struct Fetcher {
    requests: UnboundedSender<Request>,
}

impl Fetcher {
    /// Starts the task on the current runtime.
    pub(super) fn start(
        runtime: &tokio::runtime::Handle,
        mut client: BulkClient,
        fetched: impl Fn(Fetched) + Send + Sync + 'static,
    ) -> Self {
        let (requests, mut inbox) = unbounded_channel();
        runtime.spawn(async move {
            while let Some(request) = inbox.recv().await {
                let result = match request {
                    Request::Manifest(bytes) => manifest(&mut client, bytes, &fetched).await,
                    Request::Blocks(blocks) => batch(&mut client, blocks, &fetched).await,
                };
                if let Err(error) = result {
                    return fetched(Fetched::Failed(error));
                }
            }
        });
        Self { requests }
    }

    /// Requests the manifest of `bytes` bytes.
    pub(super) fn manifest(&self, bytes: u64) {
        let _ = self.requests.send(Request::Manifest(bytes));
    }

    /// Requests image blocks, in ascending order.
    pub(super) fn blocks(&self, blocks: Vec<u32>) {
        let _ = self.requests.send(Request::Blocks(blocks));
    }
}

async fn manifest(
    client: &mut BulkClient,
    bytes: u64,
    fetched: &(impl Fn(Fetched) + Sync),
) -> Result<(), String> {
    let mut patience = Patience::default();
    loop {
        match client.manifest(bytes).await {
            Ok(manifest) => {
                fetched(Fetched::Manifest(manifest));
                return Ok(());
            }
            Err(error) => patience.wait(&error).await?,
        }
    }
}

async fn batch(
    client: &mut BulkClient,
    mut wanted: Vec<u32>,
    fetched: &(impl Fn(Fetched) + Sync),
) -> Result<(), String> {
    let mut patience = Patience::default();
    while !wanted.is_empty() {
        let mut got = 0;
        let result = client
            .blocks(&ranges(&wanted), |block, bytes| {
                got += 1;
                fetched(Fetched::Block(block, bytes));
            })
            .await;
        wanted.drain(..got.min(wanted.len()));
        match result {
            Ok(()) => break,
            Err(error) => {
                if got > 0 {
                    patience = Patience::default();
                }
                patience.wait(&error).await?;
            }
        }
    }
    fetched(Fetched::BatchEnd);
    Ok(())
}

/// Groups numbers into runs of consecutive ones.
fn ranges(blocks: &[u32]) -> Vec<RangeInclusive<u32>> {
    let mut ranges: Vec<RangeInclusive<u32>> = Vec::new();
    for block in blocks {
        match ranges.last_mut() {
            Some(last) if last.end().checked_add(1) == Some(*block) => {
                *last = *last.start()..=*block
            }
            _ => ranges.push(*block..=*block),
        }
    }
    ranges
}

struct Patience {
    left: u32,
    wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            left: TRIES,
            wait: RETRY.0,
        }
    }
}

impl Patience {
    async fn wait(&mut self, error: &BulkError) -> Result<(), String> {
        self.left -= 1;
        let text = match std::error::Error::source(error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
        if self.left == 0 {
            return Err(text);
        }
        tracing::debug!(error = %text, "fetching again");
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(RETRY.1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_asked_for_in_runs() {
        assert_eq!(ranges(&[]), []);
        assert_eq!(ranges(&[3, 4, 5, 9, 11, 12]), [3..=5, 9..=9, 11..=12]);
        assert_eq!(ranges(&[u32::MAX]), [u32::MAX..=u32::MAX]);
    }
}
