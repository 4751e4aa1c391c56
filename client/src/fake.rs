//! A console for tests: a socket with prepared answers.

use api::SOCKET_NAME;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

/// A console that answers each connection with the next of `answers`, in pieces. Returns the
/// requests.
pub fn console(folder: &Path, answers: Vec<Vec<Vec<u8>>>) -> tokio::task::JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(folder.join(SOCKET_NAME)).unwrap();
    tokio::spawn(async move {
        let mut requests = Vec::new();
        for pieces in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            loop {
                let read = stream.read(&mut buffer).await.unwrap();
                request.extend_from_slice(&buffer[..read]);
                let text = String::from_utf8_lossy(&request);
                let Some((head, body)) = text.split_once("\r\n\r\n") else {
                    continue;
                };
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "))
                    .map_or(0, |n| n.parse().unwrap());
                if read == 0 || body.len() >= length {
                    break;
                }
            }
            requests.push(String::from_utf8(request).unwrap());
            for piece in pieces {
                stream.write_all(&piece).await.unwrap();
                stream.flush().await.unwrap();
                tokio::task::yield_now().await;
            }
        }
        requests
    })
}

/// An HTTP response with this status and body, in one piece.
pub fn answer(status: &str, body: &str) -> Vec<Vec<u8>> {
    vec![
        format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes(),
    ]
}
