//! The console: jobs from plan to report, the roster of agents, the store, and the local API.
//!
//! | module | content |
//! |---|---|
//! | [`serve`] | the service: lock, identity, interface, ports, recovery, ready, end |
//! | [`api_server`] | server of the local API; the types are in the crate `api` |
//! | [`control_server`], [`bulk_server`], [`handshakes`], [`throttle`] | TCP 5001 and 5003 |
//! | [`roster`], [`jobs`], [`job`] | known targets; jobs that have not ended; one job |
//! | [`store`], [`master`], [`image_check`] | persistent state; the image as a session sends it; its check before that |
//! | [`shares`] | images on shares, mounted while they are open |
//! | [`doctor`] | checks of the network and the machines |
//! | [`capture`], [`offers`] | images that targets upload; deployments that people at targets start |
//! | [`personal`] | templates: secrets, bindings, inspection of images, personal plans |
//! | [`interface`], [`port`], [`time`] | the machine that the console runs on |

mod answer;
pub mod api_server;
pub mod boot;
pub mod bulk_server;
pub mod capture;
pub mod context;
pub mod control_server;
pub mod doctor;
mod doctor_self;
pub mod first_start;
mod freshness;
pub mod handshakes;
pub mod image_check;
pub mod interface;
pub mod job;
mod job_add;
pub mod jobs;
pub mod master;
pub mod offers;
pub mod personal;
pub mod port;
mod recovery;
pub mod roster;
pub mod serve;
pub mod shares;
pub mod store;
pub mod throttle;
pub mod time;
mod trust;

#[cfg(test)]
mod identity_tests;
#[cfg(test)]
mod test_room;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_confirm;
#[cfg(test)]
mod tests_end;
#[cfg(test)]
mod tests_first_start;
#[cfg(test)]
mod tests_holes;
#[cfg(test)]
mod tests_patience;
#[cfg(test)]
mod tests_trust;
