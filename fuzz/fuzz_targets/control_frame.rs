//! Fuzz target: any frame from a peer on TCP 5001, in both directions. It gives a message or a
//! refusal, never a panic; a message can be encoded, and the result decoded again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::control::{AgentMessage, ConsoleMessage, decode, encode};

fuzz_target!(|data: &[u8]| {
    if let Ok(message) = decode::<AgentMessage>(data)
        && let Ok(words) = encode(&message)
    {
        decode::<AgentMessage>(&words).expect("what this program wrote, it reads");
    }
    if let Ok(message) = decode::<ConsoleMessage>(data)
        && let Ok(words) = encode(&message)
    {
        decode::<ConsoleMessage>(&words).expect("what this program wrote, it reads");
    }
});
