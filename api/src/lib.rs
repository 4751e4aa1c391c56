//! The console's local API: requests, views, events and errors. Pure.
//!
//! HTTP/1.1 with JSON over a Unix socket `console.sock` in the data directory. Errors have `code`,
//! `message` and `hint`; `code` decides the exit code of the CLI. Long commands read
//! `GET /v1/jobs/ID/events`, one JSON object a line.
//!
//! | module | content |
//! |---|---|
//! | `console`, `target`, `boot`, `image`, `job`, `plan`, `capture`, `template`, `first_start` | requests and views, re-exported here |
//! | `error` | kinds of failure, one for each exit code |
//! | [`doctor`] | request and report of `diskcast doctor` |
//! | [`select`] | selectors of targets |
//! | [`confirm`] | texts by which disks are confirmed |
//! | [`name`] | names that a technician may give |

mod boot;
mod capture;
pub mod confirm;
mod console;
pub mod doctor;
mod error;
mod first_start;
mod image;
mod job;
pub mod name;
mod plan;
pub mod select;
mod target;
mod template;

pub use boot::{
    BootEvent, BootKnown, BootOrders, BootPolicy, BootReport, BootService, BootSync, MachineView,
};
pub use capture::{CaptureRequest, CaptureView, Offer, OfferAction, OfferList, OfferRequest};
pub use console::{ConsoleInfo, SCHEMA_VERSION, SOCKET_NAME};
pub use error::{ApiError, ErrorCode};
pub use first_start::{FirstStart, FirstStartState};
pub use image::{CheckRequest, ImageCheck};
pub use job::{
    AddPlan, AddRequest, CancelRequest, CreateJob, DeployRequest, Event, JobList, JobState,
    JobTarget, JobView, Newcomer, Report, RetryRequest, SessionView, StartRequest, StartRule,
    Summary,
};
pub use plan::{ImageSummary, Plan, PlannedTarget};
pub use target::{IdentifyRequest, IdentityView, RenameRequest, TargetList, TargetView};
pub use template::{
    BindingList, GivenSecrets, ImportRequest, PlannedFile, SecretList, SecretRequest, SecretView,
    ShareAccount, SignRequest, SignatureView, SigningKeyView, TemplateUse, no_share,
};
