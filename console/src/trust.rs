//! Deployment of signed images only, if the console is configured so.
//!
//! Owns the rule. Invariants: the keys are given at the start of the console, so no request adds
//! one or waives the rule; an image without a trusted signature is refused in every plan and offer,
//! and again when a job is about to send orders.

use super::context::Console;
use super::master::MasterImage;
use api::{ApiError, ErrorCode, Plan};
use disk::signing::public_text;
use imagefmt::VerifyingKey;

/// Hint for an image that is refused because of its signatures.
const HINT: &str = "diskcast image sign signs an image; diskcast console show lists the keys";

impl Console {
    /// Returns the reason why this console does not deploy an image; `None` with a trusted
    /// signature, or if no key is configured.
    pub(super) fn untrusted(&self, image: &MasterImage) -> Option<String> {
        refusal(&self.settings.signed_by, image.image().signers())
    }

    /// Refuses an image without a trusted signature.
    ///
    /// # Errors
    /// `Refused`, with the signers.
    pub(super) fn require_signature(&self, image: &MasterImage) -> Result<(), ApiError> {
        self.untrusted(image).map_or(Ok(()), |reason| {
            let text = format!("{}: {reason}", image.summary().path);
            Err(ApiError::new(ErrorCode::Refused, text).hint(HINT))
        })
    }

    /// Refuses every target of a plan if the image has no trusted signature.
    pub(super) fn refuse_untrusted(&self, image: &MasterImage, plan: &mut Plan) {
        let Some(reason) = self.untrusted(image) else {
            return;
        };
        for target in &mut plan.targets {
            target.refused.get_or_insert_with(|| reason.clone());
        }
        plan.notes.push(HINT.to_owned());
    }
}

fn refusal(trusted: &[VerifyingKey], signers: &[VerifyingKey]) -> Option<String> {
    if trusted.is_empty() || signers.iter().any(|key| trusted.contains(key)) {
        return None;
    }
    let signers: Vec<String> = signers.iter().map(public_text).collect();
    let by = match signers.as_slice() {
        [] => "nobody signed the image".to_owned(),
        signers => format!("the image is signed by {}", signers.join(", ")),
    };
    Some(format!(
        "{by}; this console deploys only images signed by a key it trusts"
    ))
}

#[cfg(test)]
mod tests {
    use super::refusal;
    use imagefmt::VerifyingKey;

    #[test]
    fn one_trusted_signature_is_enough_and_none_is_not() {
        let key = |byte| VerifyingKey([byte; 32]);
        assert_eq!(refusal(&[], &[]), None, "no key is named");
        assert_eq!(refusal(&[key(1), key(2)], &[key(3), key(2)]), None);
        let unsigned = refusal(&[key(1)], &[]).unwrap();
        assert!(unsigned.contains("nobody signed"), "{unsigned}");
        let other = refusal(&[key(1)], &[key(2)]).unwrap();
        assert!(other.contains("dcpk1-0202"), "{other}");
    }
}
