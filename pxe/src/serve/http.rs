//! HTTP on TCP port 5080: scripts, files, and the events of the pre-OS.
//!
//! ```text
//! GET  /boot.ipxe?mac=&uuid=&arch=   script for this machine
//! GET  /NAME                         a file of the boot folder, ranges allowed
//! POST /event                        {"mac", "uuid", "stage", "detail"}: believed for display only
//! ```

use super::Shared;
use super::files::NAMES;
use super::line::{FileBody, Line, Progress};
use crate::script;
use bytes::Bytes;
use facts::boot::Stage;
use facts::boot::{Machine, Report};
use facts::{Mac, Uuid};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, RANGE,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Most connections at once.
const MAX_CONNECTIONS: usize = 1024;
/// Most connections of one address. A machine has one or two.
const MAX_PER_ADDRESS: usize = 16;
/// Time without progress after which a connection is closed.
const STALL: Duration = Duration::from_secs(30);
/// Longest time until a request's header is complete.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// Longest event that is read, in bytes.
const MAX_EVENT: usize = 4096;

type Answer = Response<FileBody>;

pub(super) async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    let line = Line::default();
    let counts: Arc<Mutex<BTreeMap<Ipv4Addr, usize>>> = Arc::default();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let (stream, from) = match accepted {
            Ok((stream, from)) => (stream, from),
            Err(error) => {
                // Out of file descriptors: some are free again when open connections end.
                tracing::warn!(%error, "HTTP boot");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let IpAddr::V4(address) = from.ip() else {
            continue;
        };
        let Some(seat) = Seat::take(&counts, address, connections.len()) else {
            tracing::debug!(%address, "too many connections");
            continue;
        };
        let (shared, line) = (Arc::clone(&shared), line.clone());
        connections.spawn(async move {
            connection(shared, line, stream, address).await;
            drop(seat);
        });
    }
}

/// The right of an address to one connection; given back when dropped.
struct Seat {
    counts: Arc<Mutex<BTreeMap<Ipv4Addr, usize>>>,
    address: Ipv4Addr,
}

impl Seat {
    fn take(
        counts: &Arc<Mutex<BTreeMap<Ipv4Addr, usize>>>,
        address: Ipv4Addr,
        all: usize,
    ) -> Option<Self> {
        let mut map = counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = map.entry(address).or_insert(0);
        if *count >= MAX_PER_ADDRESS || all >= MAX_CONNECTIONS {
            return None;
        }
        *count += 1;
        Some(Self {
            counts: Arc::clone(counts),
            address,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut map = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = map.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                map.remove(&self.address);
            }
        }
    }
}

async fn connection(shared: Arc<Shared>, line: Line, stream: TcpStream, address: Ipv4Addr) {
    let _ = stream.set_nodelay(true);
    let progress = Progress::default();
    let moved = Arc::clone(&progress);
    let service = service_fn(move |request| {
        let (shared, line, progress) = (Arc::clone(&shared), line.clone(), Arc::clone(&progress));
        async move { Ok::<_, Infallible>(answer(shared, line, progress, address, request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .serve_connection(TokioIo::new(stream), service);
    let stalled = async {
        let mut before = moved.load(Ordering::Relaxed);
        loop {
            tokio::time::sleep(STALL).await;
            let now = moved.load(Ordering::Relaxed);
            if now == before {
                break;
            }
            before = now;
        }
    };
    tokio::select! {
        ended = served => {
            if let Err(error) = ended {
                tracing::debug!(%address, %error, "HTTP boot");
            }
        }
        () = stalled => tracing::debug!(%address, "a connection on which nothing moves is closed"),
    }
}

async fn answer(
    shared: Arc<Shared>,
    line: Line,
    progress: Progress,
    address: Ipv4Addr,
    request: Request<Incoming>,
) -> Answer {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET | &Method::HEAD, "boot.ipxe") => {
            let query = request.uri().query().unwrap_or_default();
            boot_script(&shared, address, query)
        }
        (&Method::GET | &Method::HEAD, name) if NAMES.contains(&name) => {
            file(shared, line, progress, address, name, &request).await
        }
        (&Method::POST, "event") => event(&shared, address, request.into_body()).await,
        (&Method::GET | &Method::HEAD, _) => text(
            StatusCode::NOT_FOUND,
            "no such file is offered\n".to_owned(),
        ),
        _ => text(
            StatusCode::METHOD_NOT_ALLOWED,
            "GET and HEAD are offered\n".to_owned(),
        ),
    }
}

fn text(status: StatusCode, text: String) -> Answer {
    let mut answer = Response::new(FileBody {
        rest: text.into(),
        place: None,
        progress: Progress::default(),
        whole: None,
    });
    *answer.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, plain);
    answer
}

fn boot_script(shared: &Shared, address: Ipv4Addr, query: &str) -> Answer {
    let Some(said) = parameter(query, "mac") else {
        // The script for requests without a card, as other servers hand it out: iPXE fetches it
        // again with its card and UUID. Such a second request is answered with the machine's script
        // or an error.
        let again = "#!ipxe\nchain boot.ipxe?mac=${netX/mac:hexhyp}&uuid=${uuid} || exit 1\n";
        return text(StatusCode::OK, again.to_owned());
    };
    let Some(mac) = said.parse().ok().filter(|mac: &Mac| mac.is_card()) else {
        return text(
            StatusCode::BAD_REQUEST,
            format!("mac={}: no address of a card\n", facts::boot::clean(&said)),
        );
    };
    let uuid = parameter(query, "uuid").and_then(|text| text.parse::<Uuid>().ok());
    let known = shared.machines().of(mac);
    let machine = Machine {
        mac,
        uuid: uuid.or(known.uuid),
    };
    let (verdict, words) = shared.scripted(&machine, address, "iPXE");
    text(
        StatusCode::OK,
        script::ipxe(shared.service(), &machine, verdict, &words),
    )
}

/// The value of a query parameter. iPXE writes colons unchanged or as `%3A`.
fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(key, _)| *key == name)?;
    Some(value.replace("%3A", ":").replace("%3a", ":"))
}

async fn file(
    shared: Arc<Shared>,
    line: Line,
    progress: Progress,
    address: Ipv4Addr,
    name: &str,
    request: &Request<Incoming>,
) -> Answer {
    let Some(bytes) = shared.files.get(name) else {
        shared.failed(address, &format!("{name} is not in the boot folder"));
        return text(
            StatusCode::NOT_FOUND,
            format!("{name} is not in the boot folder\n"),
        );
    };
    let whole = bytes.len();
    let asked = request
        .headers()
        .get(RANGE)
        .and_then(|value| value.to_str().ok());
    let (status, range) = match asked.map_or(Wanted::Whole, |text| wanted(text, whole)) {
        Wanted::Whole => (StatusCode::OK, 0..whole),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Wanted::Nothing => {
            let mut answer = text(StatusCode::RANGE_NOT_SATISFIABLE, String::new());
            set(&mut answer, CONTENT_RANGE, &format!("bytes */{whole}"));
            return answer;
        }
    };
    let head = request.method() == Method::HEAD;
    let to_the_end = range.end == whole;
    let content_range = format!(
        "bytes {}-{}/{whole}",
        range.start,
        range.end.saturating_sub(1)
    );
    let rest: Bytes = bytes.slice(range);
    let place = if head {
        None
    } else {
        line.place(rest.len(), &progress).await
    };
    let name = name.to_owned();
    let told: Option<Box<dyn FnOnce() + Send>> = if head || !to_the_end {
        None
    } else {
        Some(Box::new(move || shared.fetched(address, &name)))
    };
    let length = rest.len();
    let mut answer = Response::new(FileBody {
        rest: if head { Bytes::new() } else { rest },
        place,
        progress,
        whole: told,
    });
    *answer.status_mut() = status;
    set(&mut answer, CONTENT_TYPE, "application/octet-stream");
    set(&mut answer, ACCEPT_RANGES, "bytes");
    set(&mut answer, CONTENT_LENGTH, &length.to_string());
    if status == StatusCode::PARTIAL_CONTENT {
        set(&mut answer, CONTENT_RANGE, &content_range);
    }
    answer
}

fn set(answer: &mut Answer, name: hyper::header::HeaderName, value: &str) {
    // Numbers and fixed words are always valid header values.
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

#[derive(Debug, Eq, PartialEq)]
enum Wanted {
    Whole,
    Part(Range<usize>),
    Nothing,
}

/// Parses a `Range` header for a file of `length` bytes (RFC 9110 section 14.1.2). Several ranges
/// at once, and units other than bytes, are answered with the whole file, which the RFC allows.
fn wanted(header: &str, length: usize) -> Wanted {
    let Some((first, last)) = header
        .strip_prefix("bytes=")
        .filter(|range| !range.contains(','))
        .and_then(|range| range.split_once('-'))
    else {
        return Wanted::Whole;
    };
    let number = |text: &str| text.trim().parse::<usize>();
    let range = match (first.trim(), last.trim()) {
        ("", last) => match number(last) {
            Ok(count) => length.saturating_sub(count)..length,
            Err(_) => return Wanted::Whole,
        },
        (first, "") => match number(first) {
            Ok(first) => first..length,
            Err(_) => return Wanted::Whole,
        },
        (first, last) => match (number(first), number(last)) {
            (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(length),
            _ => return Wanted::Whole,
        },
    };
    if range.is_empty() || range.start >= length {
        Wanted::Nothing
    } else {
        Wanted::Part(range)
    }
}

#[derive(Deserialize)]
struct Event {
    mac: String,
    #[serde(default)]
    uuid: Option<String>,
    stage: Stage,
    #[serde(default)]
    detail: Option<String>,
}

/// Reports an event that the pre-OS sends. Anybody on the network can send one, so events are
/// displayed and have no other effect.
async fn event(shared: &Shared, address: Ipv4Addr, body: Incoming) -> Answer {
    let Ok(body) = Limited::new(body, MAX_EVENT).collect().await else {
        return text(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("an event has at most {MAX_EVENT} bytes\n"),
        );
    };
    let event: Event = match serde_json::from_slice(&body.to_bytes()) {
        Ok(event) => event,
        Err(error) => return text(StatusCode::BAD_REQUEST, format!("{error}\n")),
    };
    let said = |stage: Stage| {
        matches!(
            stage,
            Stage::Initramfs | Stage::Agent | Stage::Joined | Stage::Unusable
        )
    };
    let (Ok(mac), true) = (event.mac.parse::<Mac>(), said(event.stage)) else {
        return text(
            StatusCode::BAD_REQUEST,
            "no card, or no stage of the pre-OS\n".to_owned(),
        );
    };
    let known = shared.machines().of(mac);
    let machine = Machine {
        mac,
        uuid: event.uuid.and_then(|text| text.parse().ok()).or(known.uuid),
    };
    let mut report = Report::new(machine, event.stage).at(address);
    if let Some(detail) = &event.detail {
        report = report.detail(detail);
    }
    shared.report(report);
    text(StatusCode::NO_CONTENT, String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (header, expected) in [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=2-4", Wanted::Part(2..5)),
            ("bytes=7-", Wanted::Part(7..10)),
            ("bytes=-3", Wanted::Part(7..10)),
            ("bytes=-300", Wanted::Part(0..10)),
            ("bytes=5-300", Wanted::Part(5..10)),
            ("bytes=0-18446744073709551615", Wanted::Part(0..10)),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=5-2", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=x-", Wanted::Whole),
            ("rows=0-1", Wanted::Whole),
            ("bytes=99999999999999999999-", Wanted::Whole),
        ] {
            assert_eq!(wanted(header, 10), expected, "{header}");
        }
        assert_eq!(wanted("bytes=0-", 0), Wanted::Nothing);
    }

    #[test]
    fn queries() {
        let query = "mac=52%3A54%3a00:00:00:01&uuid=&x";
        assert_eq!(
            parameter(query, "mac").as_deref(),
            Some("52:54:00:00:00:01")
        );
        assert_eq!(parameter(query, "uuid").as_deref(), Some(""));
        assert_eq!(parameter(query, "x"), None);
    }
}
