//! A job from plan to report, the roster of agents, the store, and the local API.
//!
//! | module | what it is |
//! |---|---|
//! | [`serve`] | the service: lock, identity, interface, ports, recovery, ready, end |
//! | [`api`], [`api_plan`], [`api_capture`], [`client`], [`api_server`] | the local API: its types, the CLI's end, the console's end |
//! | [`control_server`], [`bulk_server`], [`handshakes`], [`throttle`] | TCP 5001 and 5003 |
//! | [`roster`], [`jobs`], [`job`] | who is there; which jobs are not over; one job |
//! | [`store`], [`master`], [`image_check`] | what survives a restart; the image as a session sends it; proven before it is |
//! | [`shares`] | images on shares, mounted while they are open |
//! | [`doctor`], [`doctor_report`] | what `doctor` asks and says |
//! | [`capture`], [`offers`] | images that targets upload; what people at targets may start themselves |
//! | [`personal`], [`api_template`] | templates: secrets, names handed out, images inspected, plans made whole |
//! | [`select`], [`plan`], [`naming`] | pure: which targets, which disks, who is who |
//! | [`interface`], [`port`], [`time`] | the machine the console runs on |

pub mod api;
pub mod api_capture;
pub mod api_plan;
pub mod api_server;
pub mod api_template;
pub mod boot;
pub mod bulk_server;
pub mod capture;
pub mod client;
pub mod confirm;
pub mod context;
pub mod control_server;
pub mod doctor;
mod doctor_judge;
pub mod doctor_report;
mod doctor_self;
mod freshness;
pub mod handshakes;
pub mod image_check;
pub mod interface;
pub mod job;
mod job_add;
pub mod jobs;
pub mod master;
pub mod naming;
pub mod offers;
pub mod personal;
pub mod plan;
pub mod port;
mod recovery;
pub mod roster;
pub mod schedule;
pub mod select;
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
mod tests_holes;
#[cfg(test)]
mod tests_patience;
#[cfg(test)]
mod tests_trust;
