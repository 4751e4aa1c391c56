//! The pre-OS's address: which card, its link, DHCP or the command line.
//!
//! | module | what it is | pure |
//! |---|---|---|
//! | [`cards`] | the cards of this machine and which to use | the choice is |
//! | [`exchange`] | the DHCP client: questions, answers, times | yes |
//! | [`netlink`] | link up, address, route | |
//! | [`bring_up`] | the threads that do it, one a card | |

pub mod bring_up;
pub mod cards;
pub mod exchange;
pub mod netlink;
