//! What the console says to people and programs: requests, views, events and errors of its local API. Pure.
//!
//! HTTP/1.1 with JSON over a Unix socket `console.sock` in the data directory. Errors carry `code`, `message` and
//! `hint`; the CLI turns `code` into its exit code. Long commands read `GET /v1/jobs/ID/events`, one JSON object a line.
//!
//! | module | what it is |
//! |---|---|
//! | `console`, `target`, `boot`, `image`, `job`, `plan`, `capture`, `template`, `first_start` | requests and views, named here without their module |
//! | `error` | kinds of failure, one to an exit code |
//! | [`doctor`] | what `diskcast doctor` asks and says |
//! | [`select`] | the words by which targets are selected |
//! | [`confirm`] | the words by which disks are confirmed |
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
