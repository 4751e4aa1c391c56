//! diskcast puts one master image on a room full of machines at once and proves the result.
//!
//! This package is the program `diskcast`: its commands, messages and tables ([`cli`]). The crates
//! beside it, and which of them may use which, are in `docs/architecture.md`. `console` is the
//! technician's side, `agent` the target side, `preos` the program around it; `terminal` is what both
//! programs share. `facts` has the words that all crates share (facts and states of a target,
//! sizes, rates and times), and the rule that says who a machine is. `net` has sockets, TLS, clock
//! and the loops that drive a session; `disk` has block devices, capture, writing, read-back and
//! commit. `imagefmt`, `diskmap` and `multicast` are crates of their own, so that their manifests
//! prove that no socket, clock or file can enter them. `pxe` is one too: its codecs and decisions
//! are pure, its services and exports are not. The crates behind templates (`docs/templates.md`):
//! `template`, `hive` and `inspect` are pure; `apply` changes disks, `domain` makes and checks
//! blobs for a domain join, and `firstboot` is the job that a machine carries out by itself.

pub mod cli;
