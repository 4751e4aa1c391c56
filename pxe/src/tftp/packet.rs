//! The packets of TFTP as values.

/// Longest request that is read, in bytes: names and options of real clients stay under 200.
const MAX_REQUEST: usize = 1024;
/// Longest file name that is accepted, in bytes.
const MAX_NAME: usize = 255;
/// Largest block, in bytes: an Ethernet frame less the headers of IP, UDP and TFTP, so that nothing
/// is ever fragmented.
pub(super) const MAX_BLOCK: u16 = 1468;
/// Block size without the option (RFC 1350), in bytes.
pub(super) const DEFAULT_BLOCK: u16 = 512;
/// Most blocks in flight: enough to fill a LAN's round trip, too few to flood a switch port.
pub(super) const MAX_WINDOW: u16 = 32;

const RRQ: u16 = 1;
const WRQ: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OACK: u16 = 6;

/// Error codes (RFC 1350 appendix, RFC 2347).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorCode {
    /// 0: not defined; the text explains.
    Undefined,
    /// 1: no such file.
    NotFound,
    /// 2: access refused.
    Access,
    /// 4: illegal operation.
    Illegal,
    /// 8: options refused (RFC 2347).
    Options,
}

impl ErrorCode {
    fn number(self) -> u16 {
        match self {
            Self::Undefined => 0,
            Self::NotFound => 1,
            Self::Access => 2,
            Self::Illegal => 4,
            Self::Options => 8,
        }
    }
}

/// The reason bytes are no packet.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TftpError {
    /// Cut, or no packet at all.
    #[error("no TFTP packet")]
    Malformed,
    /// Longer than any real one.
    #[error("a request of {0} bytes is longer than any real one")]
    Long(usize),
    /// A request to write.
    #[error("writing is not offered")]
    Write,
    /// The mode is netascii or mail.
    #[error("mode {0:?} is not offered, octet is")]
    Mode(String),
}

/// A packet from a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Packet {
    /// A request for a file.
    Read(Request),
    /// The client has every block up to this one.
    Ack(u16),
    /// The client gives up.
    Error {
        /// The error code.
        code: u16,
        /// The client's message.
        text: String,
    },
}

/// A file name and the options of its transfer, which are within their limits already.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    /// The name as the client wrote it.
    pub name: String,
    /// Block size in bytes, if requested (8 to [`MAX_BLOCK`]).
    pub block_size: Option<u16>,
    /// Blocks in flight, if requested (1 to [`MAX_WINDOW`]).
    pub window: Option<u16>,
    /// Seconds until a packet is sent again, if requested.
    pub timeout_s: Option<u8>,
    /// True when the client asks for the length of the file.
    pub size: bool,
}

impl Packet {
    /// Parses a datagram from a client.
    ///
    /// # Errors
    /// [`TftpError`]; its message can be sent back with [`error`].
    pub fn parse(bytes: &[u8]) -> Result<Self, TftpError> {
        let (kind, rest) = bytes.split_first_chunk::<2>().ok_or(TftpError::Malformed)?;
        match u16::from_be_bytes(*kind) {
            RRQ => Request::parse(rest).map(Self::Read),
            WRQ => Err(TftpError::Write),
            ACK => match rest.first_chunk::<2>() {
                Some(block) => Ok(Self::Ack(u16::from_be_bytes(*block))),
                None => Err(TftpError::Malformed),
            },
            ERROR => {
                let (code, text) = rest.split_first_chunk::<2>().ok_or(TftpError::Malformed)?;
                let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
                Ok(Self::Error {
                    code: u16::from_be_bytes(*code),
                    text: facts::boot::clean(&String::from_utf8_lossy(text)),
                })
            }
            _ => Err(TftpError::Malformed),
        }
    }
}

impl Request {
    fn parse(rest: &[u8]) -> Result<Self, TftpError> {
        if rest.len() > MAX_REQUEST {
            return Err(TftpError::Long(rest.len()));
        }
        // Some ROMs fill the packet up after the last zero.
        let mut words = rest.split(|byte| *byte == 0);
        let mut word = || {
            words
                .next()
                .map(|word| String::from_utf8_lossy(word).into_owned())
        };
        let (Some(name), Some(mode)) = (word(), word()) else {
            return Err(TftpError::Malformed);
        };
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(TftpError::Malformed);
        }
        if !mode.eq_ignore_ascii_case("octet") {
            return Err(TftpError::Mode(facts::boot::clean(&mode)));
        }
        let mut request = Self {
            name,
            block_size: None,
            window: None,
            timeout_s: None,
            size: false,
        };
        // An unknown option, or one with a nonsensical value, is left out of the answer and so
        // declined (RFC 2347).
        while let (Some(option), Some(value)) = (word(), word()) {
            let number = value.parse::<u64>().ok();
            let within = |least: u64, most: u16| {
                let number = number.filter(|n| *n >= least)?.min(u64::from(most));
                u16::try_from(number).ok()
            };
            match option.to_ascii_lowercase().as_str() {
                "blksize" => request.block_size = within(8, MAX_BLOCK),
                "windowsize" => request.window = within(1, MAX_WINDOW),
                "timeout" => {
                    request.timeout_s = number
                        .filter(|n| *n >= 1)
                        .and_then(|n| u8::try_from(n).ok())
                }
                "tsize" => request.size = number.is_some(),
                _ => {}
            }
        }
        Ok(request)
    }

    /// The OACK packet with the accepted options. `None` when there are none: then the transfer
    /// begins with its first block.
    pub fn accepted(&self, file_len: usize) -> Option<Vec<u8>> {
        let mut packet = OACK.to_be_bytes().to_vec();
        let mut put = |name: &str, value: Option<u64>| {
            if let Some(value) = value {
                packet.extend(format!("{name}\0{value}\0").as_bytes());
            }
        };
        put("blksize", self.block_size.map(u64::from));
        put("windowsize", self.window.map(u64::from));
        put("timeout", self.timeout_s.map(u64::from));
        put("tsize", self.size.then_some(file_len as u64));
        (packet.len() > 2).then_some(packet)
    }
}

/// Writes a DATA packet into `out`.
pub(super) fn data(out: &mut Vec<u8>, block: u16, bytes: &[u8]) {
    out.clear();
    out.extend(DATA.to_be_bytes());
    out.extend(block.to_be_bytes());
    out.extend(bytes);
}

/// Builds an ERROR packet.
pub fn error(code: ErrorCode, text: &str) -> Vec<u8> {
    let mut packet = ERROR.to_be_bytes().to_vec();
    packet.extend(code.number().to_be_bytes());
    packet.extend(text.bytes().filter(|byte| *byte != 0).take(400));
    packet.push(0);
    packet
}
