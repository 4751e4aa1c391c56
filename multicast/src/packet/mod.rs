//! Bytes on the wire: headers, their seal, the window against replays, and the reports of receivers.

pub mod replay;
pub mod seal;
pub mod status;
pub mod wire;
