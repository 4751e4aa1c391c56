//! Sockets, TLS, clock, control frames on a stream, and the loops that drive a session.
//!
//! | module | what it is |
//! |---|---|
//! | [`frames`] | messages of TCP 5001 on a byte stream |
//! | [`tls`] | the console's identity, its pin, TLS settings of both ends |
//! | [`clock`] | the one clock of a session |
//! | [`socket`] | multicast sockets, batched |
//! | [`sources`] | who sends on a session |
//! | [`port_owner`] | who holds a port |
//! | [`kernel_drops`] | what the kernel threw away |
//! | [`beacon`] | the console's announcement, sent and heard |
//! | [`igmp`], [`igmp_querier`], [`igmp_watch`] | is there a querier: packets, rules, the thread |
//! | [`probe`], [`probe_run`], [`probe_dhcp`] | what `doctor` sends and counts |
//! | [`sending`], [`receiving`] | the two ends of a session, each one thread |
//!
//! The loops are shells: when one starts deciding something, the decision belongs into `multicast`.

pub mod beacon;
pub mod clock;
pub mod frames;
pub mod igmp;
pub mod igmp_querier;
pub mod igmp_watch;
pub mod kernel_drops;
pub mod port_owner;
pub mod probe;
pub mod probe_dhcp;
pub mod probe_run;
pub mod receiving;
pub mod sending;
pub mod socket;
pub mod sources;
pub mod tls;
