//! Offers: deployments that people at targets may start, within an administrator's limits.
//!
//! Owns the offers, every check of a choice made at a target, and the answers. Invariants: claims
//! of an agent are not trusted: target, offer, disk and number of uses are checked here against the
//! console's own data; a choice becomes an ordinary job for that machine alone; every choice and
//! every refusal of an offer is logged.

use super::capture::{Asked, NotTaken, say};
use super::context::Console;
use super::jobs::{parse_id, store_error};
use super::shares::{Wanted, check_offered};
use super::store::StoreError;
use super::time::{now, now_text};
use api::confirm::shown;
use api::select::Selector;
use api::{
    ApiError, CreateJob, DeployRequest, ErrorCode, Offer, OfferAction, OfferRequest, StartRule,
    TargetView,
};
use facts::disk_rule::{DiskRule, NoDisk};
use facts::order::EndAction;
use facts::same_disk::same_disk;
use facts::target::{DiskFacts, TargetState};
use jobs::naming;
use jobs::schedule::until;
use protocol::control::{
    BackupRequest, ChoiceAnswer, ConsoleMessage, DiskOrder, Menu, MenuDisk, MenuOffer, TakeOffer,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Maximum number of offers at once: more than a menu shows.
const MAX_OFFERS: usize = 100;
/// Longest note of an offer, in characters.
const MAX_NOTE: usize = 200;

/// The offers of a console.
#[derive(Default)]
pub struct Offers {
    inner: Mutex<BTreeMap<String, Offer>>,
    /// Lock under which one choice is checked, carried out and counted before the next.
    turn: tokio::sync::Mutex<()>,
}

impl Offers {
    /// Makes the collection from stored offers.
    pub fn new(offers: Vec<Offer>) -> Self {
        let named = |offer: Offer| (offer.name.clone(), offer);
        Self {
            inner: Mutex::new(offers.into_iter().map(named).collect()),
            turn: tokio::sync::Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Offer>> {
        // Every change is one insert or remove, so a poisoned map is whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns every offer, by name.
    pub fn list(&self) -> Vec<Offer> {
        self.lock().values().cloned().collect()
    }
}

/// Returns the reason why a target may not take an offer now. Pure: `expired` is an argument.
fn barred(offer: &Offer, target: &TargetView, expired: bool) -> Option<String> {
    if expired {
        return Some("it has ended".to_owned());
    }
    if offer.limit.is_some_and(|limit| offer.taken >= limit) {
        return Some("it was taken as often as it may be".to_owned());
    }
    let meant = offer
        .targets
        .parse::<Selector>()
        .is_ok_and(|selector| selector.matches(target));
    (!meant).then(|| "it is not for this computer".to_owned())
}

fn expired(offer: &Offer) -> bool {
    let left = offer.until.as_deref().map(|time| until(now(), time));
    // An unreadable time is never stored; with one, the offer counts as expired.
    left.is_some_and(|left| left.is_none_or(|left| left.is_zero()))
}

/// Returns the disk that an offer would erase on this target.
fn disk_of<'t>(offer: &Offer, target: &'t TargetView) -> Result<&'t DiskFacts, NoDisk> {
    let OfferAction::Deploy { request, .. } = &offer.action;
    let rule = request.disk.clone().unwrap_or_default();
    rule.choose(&target.facts.disks)
}

fn menu_disk(disk: &DiskFacts) -> MenuDisk {
    MenuDisk {
        disk: DiskOrder::naming(disk),
        title: disk.title(),
        contents: disk.contents.clone(),
    }
}

/// Describes an offer in one line for the person at the target.
fn text_of(offer: &Offer) -> String {
    let OfferAction::Deploy { request, .. } = &offer.action;
    let what = match &offer.note {
        Some(note) => note.clone(),
        None => Path::new(&request.image).file_stem().map_or_else(
            || request.image.clone(),
            |stem| stem.to_string_lossy().into_owned(),
        ),
    };
    let then = match request.end {
        EndAction::None => "",
        EndAction::Restart => ", then restarts",
        EndAction::Shutdown => ", then switches off",
    };
    format!("{what}{then}")
}

impl Console {
    /// Publishes an offer.
    ///
    /// # Errors
    /// `Usage` for an invalid name, limit, time or request; `Refused` for an image with a password
    /// or without a trusted signature, a name in use, or too many offers; those of opening the
    /// image.
    pub async fn add_offer(&self, asked: OfferRequest) -> Result<Offer, ApiError> {
        let usage = |text: String| ApiError::new(ErrorCode::Usage, text);
        if !api::name::is_valid_name(&asked.name) {
            return Err(usage(format!("{:?} is no name for an offer", asked.name))
                .hint("1 to 63 of letters, digits, -, _ and ."));
        }
        asked
            .request
            .targets
            .parse::<Selector>()
            .map_err(|error| usage(format!("--targets: {error}")))?;
        if asked.limit == Some(0) {
            return Err(usage(
                "an offer that may be taken 0 times is none".to_owned(),
            ));
        }
        if let Some(time) = &asked.until
            && until(now(), time).is_none_or(|left| left.is_zero())
        {
            return Err(usage(format!("{time:?} is no time to come"))
                .hint("for example 2026-05-04T22:00:00+02:00"));
        }
        if let Some(template) = &asked.request.template {
            self.check_offered(template).await?;
        }
        check_offered(asked.request.share.as_ref())?;
        let password = asked.request.password.clone();
        let image = self
            .open_image(Wanted::of(&asked.request), password)
            .await?;
        if image.encrypted() {
            return Err(ApiError::new(
                ErrorCode::Refused,
                format!(
                    "{} has a password, which is never stored",
                    asked.request.image
                ),
            )
            .hint("offer an image without one, or deploy this one yourself"));
        }
        image.chosen(&asked.request.choice)?;
        self.require_signature(&image)?;
        let offer = Offer {
            name: asked.name,
            note: asked.note.map(|note| naming::clean_line(&note, MAX_NOTE)),
            targets: asked.request.targets.clone(),
            action: OfferAction::Deploy {
                request: DeployRequest {
                    password: None,
                    start: StartRule::Now,
                    ..asked.request
                },
                root: image.root().to_owned(),
            },
            limit: asked.limit,
            until: asked.until,
            created: now_text(),
            taken: 0,
        };
        {
            let mut offers = self.offers.lock();
            if offers.contains_key(&offer.name) {
                return Err(ApiError::new(
                    ErrorCode::Refused,
                    format!("there is an offer {} already", offer.name),
                )
                .hint(format!("diskcast offer remove {} first", offer.name)));
            }
            if offers.len() >= MAX_OFFERS {
                return Err(ApiError::new(
                    ErrorCode::Refused,
                    format!("there are {MAX_OFFERS} offers already"),
                ));
            }
            offers.insert(offer.name.clone(), offer.clone());
        }
        if let Err(error) = self.store.save_offer(offer.clone()).await {
            self.offers.lock().remove(&offer.name);
            return Err(store_error(&error));
        }
        tracing::info!(
            offer = offer.name,
            targets = offer.targets,
            "offer published"
        );
        Ok(offer)
    }

    /// Withdraws an offer. Jobs that were started from it go on.
    ///
    /// # Errors
    /// `NothingMatched` for an unknown offer, `Unexpected` if the store fails.
    pub async fn remove_offer(&self, name: &str) -> Result<Offer, ApiError> {
        let removed = self.offers.lock().remove(name);
        let offer = removed.ok_or_else(|| {
            ApiError::new(
                ErrorCode::NothingMatched,
                format!("there is no offer {name:?}"),
            )
            .hint("diskcast offer list shows them")
        })?;
        self.store
            .delete_offer(offer.name.clone())
            .await
            .map_err(|error| store_error(&error))?;
        tracing::info!(offer = offer.name, "offer removed");
        Ok(offer)
    }

    /// Returns the target if it may choose: approved, identified, connected and idle.
    fn may_choose(&self, id: &str) -> Result<TargetView, String> {
        let view = self.roster.view(id).map_err(|error| error.message)?;
        match (view.state, &view.job) {
            (TargetState::WaitingApproval, _) => Err("this computer is not let in yet".to_owned()),
            (TargetState::Unidentified, _) => {
                Err("a technician has to say which computer this is".to_owned())
            }
            (_, Some(job)) => Err(format!("this computer is in job {job}")),
            (TargetState::Ready, None) => Ok(view),
            _ => Err("this computer is not connected".to_owned()),
        }
    }

    /// Answers a menu request of a person at a target.
    pub(super) async fn menu_asked(&self, id: &str) {
        self.refresh_facts(&format!("id:{id}")).await;
        let menu = match self.may_choose(id) {
            Ok(view) => Menu {
                offers: self.offers_for(&view),
                disks: view.facts.disks.iter().map(menu_disk).collect(),
            },
            Err(reason) => {
                tracing::debug!(target = id, reason, "no menu");
                Menu::default()
            }
        };
        self.roster.send(id, ConsoleMessage::Menu(Box::new(menu)));
    }

    fn offers_for(&self, view: &TargetView) -> Vec<MenuOffer> {
        let offers = self.offers.list();
        let open = offers
            .iter()
            .filter(|offer| barred(offer, view, expired(offer)).is_none());
        // An offer that would be refused for lack of a disk is not shown.
        open.filter_map(|offer| {
            let disk = disk_of(offer, view).ok()?;
            Some(MenuOffer {
                name: offer.name.clone(),
                text: text_of(offer),
                disk: menu_disk(disk),
            })
        })
        .collect()
    }

    /// Answers a person at a target who took an offer.
    pub(super) async fn offer_taken(self: &Arc<Self>, id: &str, choice: TakeOffer) {
        let name = naming::clean_line(&choice.offer, 64);
        let answer = match self.take_offer(id, &choice).await {
            Ok(job) => {
                tracing::info!(target = id, offer = name, job, "offer taken at the target");
                ChoiceAnswer {
                    accepted: true,
                    text: format!("Job {job} begins."),
                }
            }
            Err(reason) => {
                tracing::warn!(
                    target = id,
                    offer = name,
                    reason,
                    "offer refused to the target"
                );
                ChoiceAnswer {
                    accepted: false,
                    text: format!("{name} cannot be deployed here: {reason}."),
                }
            }
        };
        self.roster.send(id, ConsoleMessage::ChoiceAnswer(answer));
    }

    /// Sets how often an offer was taken, in memory and in the store.
    ///
    /// An offer that was removed meanwhile is not added again, and one that took its name since is
    /// not changed.
    async fn count(&self, offer: &Offer, taken: u32) -> Result<(), StoreError> {
        let counted = Offer {
            taken,
            ..offer.clone()
        };
        self.store.count_offer(counted).await?;
        if let Some(own) = self.offers.lock().get_mut(&offer.name)
            && own.created == offer.created
        {
            own.taken = taken;
        }
        Ok(())
    }

    async fn take_offer(self: &Arc<Self>, id: &str, choice: &TakeOffer) -> Result<String, String> {
        let _turn = self.offers.turn.lock().await;
        self.refresh_facts(&format!("id:{id}")).await;
        let view = self.may_choose(id)?;
        let known = self.offers.lock().get(&choice.offer).cloned();
        let offer = known.ok_or("there is no such offer any more")?;
        if let Some(reason) = barred(&offer, &view, expired(&offer)) {
            return Err(reason);
        }
        let disk = disk_of(&offer, &view).map_err(|reason| reason.to_string())?;
        if !choice.disk.names(disk) {
            return Err(format!(
                "{} was confirmed, the offer is for {}",
                naming::clean_line(&choice.disk.path, 200),
                disk.title()
            ));
        }
        let OfferAction::Deploy { request, root } = &offer.action;
        let image = self
            .open_image(Wanted::of(request), None)
            .await
            .map_err(|error| error.message)?;
        if image.root() != root {
            return Err(format!("{} is another image now", request.image));
        }
        let create = CreateJob {
            request: DeployRequest {
                targets: format!("id:{id}"),
                // The confirmed disk by its path, because the rule may match another one a moment
                // later.
                disk: Some(DiskRule::Path(disk.path.clone())),
                ..request.clone()
            },
            expect_targets: vec![id.to_owned()],
            expect_disks: BTreeMap::from([(id.to_owned(), shown(disk))]),
        };
        // Counted before the job exists: a console that ends in between never lets an offer be taken
        // once more than its limit.
        self.count(&offer, offer.taken.saturating_add(1))
            .await
            .map_err(|error| store_error(&error).message)?;
        let job = match self.create_job(create).await {
            Ok(job) => job,
            Err(refused) => {
                if let Err(error) = self.count(&offer, offer.taken).await {
                    tracing::error!(offer = offer.name, %error, "a refused choice stays counted");
                }
                return Err(refused.message);
            }
        };
        if let Some(handle) = parse_id(&job.id).ok().and_then(|id| self.jobs.handle(id)) {
            let text = format!("started at this computer from offer {}", offer.name);
            say(&handle, id, text);
        }
        Ok(job.id)
    }

    /// Answers a backup request of a person at a target.
    pub(super) fn backup_asked(&self, id: &str, request: &BackupRequest) {
        let answer = match self.take_request(id, request) {
            Ok(asked) => {
                tracing::warn!(
                    target = id,
                    disk = asked.title,
                    "a backup is asked for at the target; diskcast image capture --target {id} confirms it"
                );
                ChoiceAnswer {
                    accepted: true,
                    text: "Asked for. It begins when somebody at the console confirms it."
                        .to_owned(),
                }
            }
            Err(reason) => {
                tracing::debug!(target = id, reason, "backup request refused");
                ChoiceAnswer {
                    accepted: false,
                    text: format!("Not asked for: {reason}."),
                }
            }
        };
        self.roster.send(id, ConsoleMessage::ChoiceAnswer(answer));
    }

    fn take_request(&self, id: &str, request: &BackupRequest) -> Result<Asked, String> {
        let view = self.may_choose(id)?;
        let disk = same_disk(&view.facts.disks, request.disk.name())
            .ok_or("this computer has no such disk")?;
        let name = request
            .name
            .clone()
            .filter(|name| api::name::is_valid_name(name));
        // The date in the name lets the next backup have another name.
        let day: String = now_text().chars().take(10).collect();
        let name = name.unwrap_or_else(|| format!("{}-{day}", view.name));
        let asked = Asked::new(disk, Some(name));
        match self.requests.ask(id, asked.clone()) {
            Ok(()) => Ok(asked),
            Err(NotTaken::TooSoon) => Err("it was asked for a moment ago".to_owned()),
            Err(NotTaken::Full) => Err("too many computers ask at once".to_owned()),
        }
    }

    /// Declines the backup request of a target.
    pub(super) fn decline(&self, id_or_name: &str) -> Result<TargetView, ApiError> {
        let view = self.roster.view(id_or_name)?;
        let Some(asked) = self.requests.answered(&view.id) else {
            return Err(ApiError::new(
                ErrorCode::NothingMatched,
                format!("{} asks for nothing", view.name),
            ));
        };
        tracing::info!(target = view.name, disk = asked.title, "backup declined");
        Ok(view)
    }

    /// Returns the text of a target's open question for lists: a newcomer that waits, or a backup
    /// request.
    pub(super) fn asks(&self, view: &TargetView) -> Option<String> {
        if let Some(waits) = self.jobs.waits(&view.id) {
            return Some(waits);
        }
        let asked = self.requests.of(&view.id)?;
        Some(format!(
            "asks for a backup of {}; diskcast image capture --target {} confirms it",
            asked.title, view.name
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use facts::target::Facts;

    fn target(name: &str) -> TargetView {
        TargetView {
            id: format!("t-{name}"),
            name: name.to_owned(),
            state: TargetState::Ready,
            connected: true,
            address: None,
            multicast: true,
            job: None,
            last_seen: String::new(),
            asks: None,
            identity: Default::default(),
            boot: Default::default(),
            first_start: None,
            facts_time: String::new(),
            facts: Facts {
                disks: vec![DiskFacts {
                    path: "/dev/sda".to_owned(),
                    size: 1 << 30,
                    ..DiskFacts::default()
                }],
                ..Facts::default()
            },
        }
    }

    fn offer() -> Offer {
        serde_json::from_value(serde_json::json!({
            "name": "lab", "targets": "lab-*", "limit": 2, "created": "",
            "action": {"kind": "deploy", "root": "ab", "request": {"image": "/i/lab.dcimg", "targets": "lab-*", "end": "restart"}}
        }))
        .unwrap()
    }

    #[test]
    fn each_limit_bars() {
        let (mut offer, lab) = (offer(), target("lab-1"));
        assert_eq!(barred(&offer, &lab, false), None);
        assert!(barred(&offer, &lab, true).unwrap().contains("ended"));
        assert!(barred(&offer, &target("office"), false).is_some());
        offer.taken = 2;
        assert!(barred(&offer, &lab, false).unwrap().contains("often"));
        offer.limit = None;
        assert_eq!(barred(&offer, &lab, false), None);
        offer.until = Some("2000-01-01T00:00:00Z".to_owned());
        assert!(expired(&offer));
        offer.until = Some("nonsense".to_owned());
        assert!(expired(&offer));
        offer.until = Some("9000-01-01T00:00:00Z".to_owned());
        assert!(!expired(&offer));
    }

    #[test]
    fn the_person_is_told_what_and_where() {
        let (offer, lab) = (offer(), target("lab-1"));
        assert_eq!(text_of(&offer), "lab, then restarts");
        let disk = disk_of(&offer, &lab).unwrap();
        assert!(DiskOrder::naming(disk).names(disk));
        let other = DiskOrder {
            serial: Some("X".to_owned()),
            ..DiskOrder::naming(disk)
        };
        assert!(!other.names(disk), "another disk under the same path");
        let model = DiskOrder {
            model: Some("another".to_owned()),
            ..DiskOrder::naming(disk)
        };
        assert!(!model.names(disk), "a disk of another make");
    }
}
