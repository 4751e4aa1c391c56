//! Control messages over a byte stream: each JSON frame follows its length.
//!
//! ```text
//! | length, u32 big endian | JSON, `length` bytes | length | JSON | ...
//! ```
//!
//! Owns: splitting the stream into frames, and frames into messages. Never opens a connection, and
//! has no timers. Invariants: a frame longer than `MAX_FRAME_BYTES` is refused when its length is
//! read, before memory is allocated for it.

use futures_util::{SinkExt, StreamExt};
use protocol::control::{self, FrameError, MAX_FRAME_BYTES};
use serde::{Serialize, de::DeserializeOwned};
use std::marker::PhantomData;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio_util::bytes::Bytes;
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

/// The reason why a control connection gave no message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The connection failed, or a frame announced more than `MAX_FRAME_BYTES`.
    #[error("control connection: {0}")]
    Io(#[from] std::io::Error),
    /// The frame is not a message.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl ConnectionError {
    /// True when the peer sent malformed data, as opposed to a broken connection.
    pub fn is_nonsense(&self) -> bool {
        match self {
            Self::Frame(_) => true,
            // rustls and the length codec report malformed bytes this way.
            Self::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
        }
    }
}

fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder()
        .length_field_length(4)
        .max_frame_length(MAX_FRAME_BYTES)
        .new_codec()
}

/// Receiving half: messages of one type, in order.
pub struct FrameReader<S, M> {
    frames: FramedRead<ReadHalf<S>, LengthDelimitedCodec>,
    messages: PhantomData<fn() -> M>,
}

/// Sending half.
pub struct FrameWriter<S, M> {
    frames: FramedWrite<WriteHalf<S>, LengthDelimitedCodec>,
    messages: PhantomData<fn(M)>,
}

/// Splits a connection into a half that receives `In` and a half that sends `Out`.
pub fn split<S, In, Out>(stream: S) -> (FrameReader<S, In>, FrameWriter<S, Out>)
where
    S: AsyncRead + AsyncWrite,
    In: DeserializeOwned,
    Out: Serialize,
{
    let (read, write) = tokio::io::split(stream);
    (
        FrameReader {
            frames: FramedRead::new(read, codec()),
            messages: PhantomData,
        },
        FrameWriter {
            frames: FramedWrite::new(write, codec()),
            messages: PhantomData,
        },
    )
}

impl<S: AsyncRead, M: DeserializeOwned> FrameReader<S, M> {
    /// The next message; `None` when the peer closed between two frames. Cancelling the future
    /// loses nothing.
    ///
    /// # Errors
    /// The connection failed, or a frame is too large or not a message.
    pub async fn recv(&mut self) -> Result<Option<M>, ConnectionError> {
        match self.frames.next().await {
            None => Ok(None),
            Some(frame) => Ok(Some(control::decode(&frame?)?)),
        }
    }
}

impl<S: AsyncWrite, M: Serialize> FrameWriter<S, M> {
    /// Sends a message and flushes it.
    ///
    /// # Errors
    /// The connection failed, or the message cannot be encoded or is too large.
    pub async fn send(&mut self, message: &M) -> Result<(), ConnectionError> {
        self.frames
            .send(Bytes::from(control::encode(message)?))
            .await?;
        Ok(())
    }

    /// Sends TLS close_notify and closes the sending half.
    pub async fn close(&mut self) {
        // The peer may have closed already; then there is nothing to report.
        let _ = self.frames.get_mut().shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::control::{AgentMessage, ConsoleMessage};

    #[tokio::test]
    async fn messages_cross_and_the_end_is_seen() {
        let (a, b) = tokio::io::duplex(64);
        let (mut from_agent, mut to_agent) = split::<_, AgentMessage, ConsoleMessage>(a);
        let (mut from_console, mut to_console) = split::<_, ConsoleMessage, AgentMessage>(b);
        to_agent.send(&ConsoleMessage::Ping).await.unwrap();
        assert!(matches!(
            from_console.recv().await.unwrap(),
            Some(ConsoleMessage::Ping)
        ));
        let sending = tokio::spawn(async move {
            to_console
                .send(&AgentMessage::Log {
                    job: None,
                    text: "x".repeat(500),
                })
                .await
                .unwrap();
            to_console.close().await;
        });
        assert!(matches!(
            from_agent.recv().await.unwrap(),
            Some(AgentMessage::Log { .. })
        ));
        assert!(from_agent.recv().await.unwrap().is_none());
        sending.await.unwrap();
    }

    #[tokio::test]
    async fn a_frame_that_claims_too_much_is_refused_at_its_length() {
        let (mut peer, ours) = tokio::io::duplex(64);
        let (mut reader, _writer) = split::<_, AgentMessage, ConsoleMessage>(ours);
        peer.write_all(&[0x7f, 0xff, 0xff, 0xff, b'{'])
            .await
            .unwrap();
        let error = reader.recv().await.unwrap_err();
        assert!(error.is_nonsense(), "{error}");
    }

    #[tokio::test]
    async fn bytes_that_are_no_message_are_nonsense_and_unknown_types_are_not() {
        let (mut peer, ours) = tokio::io::duplex(256);
        let (mut reader, _writer) = split::<_, AgentMessage, ConsoleMessage>(ours);
        let unknown = br#"{"type":"from-the-future","x":1}"#;
        peer.write_u32(u32::try_from(unknown.len()).unwrap())
            .await
            .unwrap();
        peer.write_all(unknown).await.unwrap();
        assert!(matches!(
            reader.recv().await.unwrap(),
            Some(AgentMessage::Unknown)
        ));
        peer.write_all(&[0, 0, 0, 4, 1, 2, 3, 4]).await.unwrap();
        assert!(reader.recv().await.unwrap_err().is_nonsense());
    }
}
