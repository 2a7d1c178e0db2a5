//! The offer and answer of a session's set-up: what both sides can do.

use protocol::limits::{CAPABILITIES_MAX, CAPABILITY_BYTES_MAX};
use protocol::message::common::Capability;

/// What this server takes up when it is offered: name and value.
const KNOWN: [(&str, &str); 4] = [
    // Avatars are rendered by who sees them, from the recipe in every announcement.
    ("avatar-format", "recipe/1"),
    ("avatar-capable", "receiver-renders"),
    ("chunk-format", "ecumene-chunk/1"),
    ("frame-format", "delta/1"),
];

/// Returns which of the offered capabilities are in use, in the order of the offer.
#[must_use]
pub fn answer(offer: &[Capability]) -> Vec<Capability> {
    let sane = offer.iter().take(CAPABILITIES_MAX).filter(|capability| {
        capability.name.len().max(capability.value.len()) <= CAPABILITY_BYTES_MAX
    });
    let known = sane.filter(|capability| {
        KNOWN.contains(&(capability.name.as_str(), capability.value.as_str()))
    });
    known.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capability(name: &str, value: &str) -> Capability {
        Capability { name: name.into(), value: value.into() }
    }

    #[test]
    fn what_both_can_do_is_in_use() {
        let offer = [capability("avatar-format", "vrm/1"), capability("avatar-format", "recipe/1")];
        assert_eq!(answer(&offer), offer[1..]);
    }

    #[test]
    fn a_boundless_offer_is_cut() {
        let offer = vec![capability("avatar-format", "recipe/1"); 10_000];
        assert_eq!(answer(&offer).len(), CAPABILITIES_MAX);
        assert!(answer(&[capability(&"x".repeat(1_000), "y")]).is_empty());
    }
}
