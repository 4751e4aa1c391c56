//! Sockets, TLS, clock, control frames on a stream, and the loops that drive a session.
//!
//! | module | content |
//! |---|---|
//! | [`frames`] | messages of TCP 5001 on a byte stream |
//! | [`tls`] | the console's identity, its pin, and TLS settings of both ends |
//! | [`clock`] | the only clock of a session |
//! | [`socket`] | multicast sockets with batched sending and receiving |
//! | [`sources`] | source addresses of a session's packets |
//! | [`port_owner`] | the process that holds a port |
//! | [`kernel_drops`] | datagrams that the kernel dropped |
//! | [`beacon`] | beacons of a console: sending and listening |
//! | [`igmp`], [`igmp_querier`], [`igmp_watch`] | the IGMP querier: packets, rules, thread |
//! | [`probe`], [`probe_run`], [`probe_dhcp`] | probes of `doctor`: packets, their run, DHCP servers |
//! | [`sending`], [`receiving`] | the two ends of a session, each one thread |
//!
//! The loops are shells: a decision belongs into `multicast`.

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
