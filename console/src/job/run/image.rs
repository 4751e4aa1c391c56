//! The image of a job: checked before the first order is sent; the job ends if it cannot be sent.

use super::JobRun;
use crate::image_check::RunningCheck;
use api::ImageCheck;
use facts::target::TargetState;
use jobs::run::connect::Claim;
use std::sync::Arc;

/// Progress of a job's image check, which orders wait for.
#[derive(Default)]
pub(super) enum Gate {
    /// No check was begun.
    #[default]
    Closed,
    /// A check is under way.
    Checking(Arc<RunningCheck>),
    /// Orders may go out.
    Open,
}

impl JobRun {
    /// Returns true if targets may be ordered to wipe: the image was checked in its present state,
    /// or `--no-check` skips the check.
    ///
    /// Otherwise a check begins.
    pub(super) async fn may_order(&mut self) -> bool {
        match &self.gate {
            Gate::Open => return self.session_view.damage.is_none(),
            Gate::Checking(_) => return false,
            Gate::Closed => {}
        }
        // The console may have been started again with other keys.
        if let Some(text) = self.core.console.untrusted(&self.image) {
            self.gate = Gate::Open;
            self.unsendable(text).await;
            return false;
        }
        if self.core.row.request.no_check {
            self.core
                .log("the image is not checked before: --no-check".to_owned());
            self.gate = Gate::Open;
        } else if self
            .core
            .console
            .recorded_check(&self.image)
            .await
            .is_some()
        {
            self.gate = Gate::Open;
        } else {
            self.core
                .log("checking the image before any disk is touched".to_owned());
            self.gate = Gate::Checking(self.core.console.begin_check(&self.image));
        }
        matches!(self.gate, Gate::Open)
    }

    /// Polls the running check; at its end the start and the held-back targets go on, or the job
    /// fails.
    pub(super) async fn look_at_check(&mut self) {
        let Gate::Checking(check) = &self.gate else {
            return;
        };
        match check.verdict(&self.image, &self.core.row.request.choice) {
            None => {}
            Some(Ok(_)) => {
                self.gate = Gate::Open;
                self.core.log("the image is whole".to_owned());
                if self.is_before_start() && self.start_asked {
                    self.begin().await;
                }
                for (target, claim) in std::mem::take(&mut self.held_back) {
                    self.connected(&target, claim).await;
                }
            }
            Some(Err(text)) => {
                self.gate = Gate::Open;
                self.held_back.clear();
                self.unreadable(text).await;
            }
        }
    }

    /// Holds back a target that came back before the check ended; ends it if the image is damaged.
    pub(super) async fn wait_for_image(&mut self, i: usize, target: &str, claim: Claim) {
        if let Some(text) = self.session_view.damage.clone() {
            self.core.refuse(target, &text);
            return self.end(i, TargetState::Failed, &text).await;
        }
        // The target is connected, so it must not become lost while it waits.
        self.places[i].gone_since = None;
        self.held_back.push((target.to_owned(), claim));
    }

    /// Returns the progress of the running check for the view.
    pub(super) fn check_view(&self) -> Option<ImageCheck> {
        match &self.gate {
            Gate::Checking(check) => {
                let (done_bytes, total_bytes) = check.progress();
                Some(ImageCheck::Checking {
                    done_bytes,
                    total_bytes,
                })
            }
            Gate::Closed | Gate::Open => None,
        }
    }

    /// Handles a damaged image: the record of its check is deleted, and it is not sent.
    pub(super) async fn unreadable(&mut self, text: String) {
        if self.session_view.damage.is_none() {
            self.core.console.forget_check(&self.image).await;
            self.unsendable(text).await;
        }
    }

    /// Fails every target that still needs the image, with this reason.
    async fn unsendable(&mut self, text: String) {
        self.core.log(format!("{text}; the job ends"));
        self.session_view.damage = Some(text.clone());
        for i in 0..self.places.len() {
            if self.places[i].needs_image() {
                self.ask_to_leave(i, TargetState::Failed, &text).await;
            }
        }
    }
}
