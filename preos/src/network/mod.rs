//! The pre-OS's address: choice of the card, its link, DHCP or the command line.
//!
//! | module | content | pure |
//! |---|---|---|
//! | [`cards`] | the cards of this machine, and the choice | the choice is |
//! | [`exchange`] | the DHCP client: questions, answers, times | yes |
//! | [`netlink`] | link up, address, route | |
//! | [`bring_up`] | the threads, one for each card | |

pub mod bring_up;
pub mod cards;
pub mod exchange;
pub mod netlink;
