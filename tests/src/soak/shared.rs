//! What a crowd shared and fetched, counted.

use serde_json::json;

use super::report::Report;
use super::spread::Spread;

/// Reasons that are kept for the report: the first tell the story.
const REASONS_MAX: usize = 10;

/// Counts of all clients' transfers of assets.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    offers: u64,
    fetches: u64,
    bytes_up: u64,
    bytes_down: u64,
    refusals: u64,
    breaks: u64,
    reasons: Vec<String>,
    /// Fetches of what is shared with everyone that were answered as if it were not there.
    pub withheld: u64,
    /// Fetches whose bytes were not those of the hash.
    pub wrong: u64,
    /// Milliseconds that a fetch took, with its wait for its turn.
    pub fetch_ms: Spread,
    /// Milliseconds that an offer took until it was kept.
    pub share_ms: Spread,
}

impl Shared {
    /// Notes an asset that the server keeps.
    pub fn shared(&mut self, bytes: usize, took_ms: f64) {
        self.offers += 1;
        self.bytes_up += bytes as u64;
        self.share_ms.add(took_ms);
    }

    /// Notes an asset of which every byte came and is right.
    pub fn fetched(&mut self, bytes: usize, took_ms: f64) {
        self.fetches += 1;
        self.bytes_down += bytes as u64;
        self.fetch_ms.add(took_ms);
    }

    /// Notes a refusal.
    pub fn refused(&mut self, why: String) {
        self.refusals += 1;
        self.note(why);
    }

    /// Notes a transfer that broke off.
    pub fn broken(&mut self, why: String) {
        self.breaks += 1;
        self.note(why);
    }

    fn note(&mut self, why: String) {
        if self.reasons.len() < REASONS_MAX && !self.reasons.contains(&why) {
            self.reasons.push(why);
        }
    }

    /// Writes the counts into a report; a run in which nothing was fetched does not count.
    pub fn fill(&self, report: &mut Report) {
        report.set("assets_fetched", Some(self.fetches as f64));
        report.set("assets_wrong", Some((self.wrong + self.withheld) as f64));
        report.set("asset_fetch_ms_p99", self.fetch_ms.percentile(99));
        report.spreads.insert("asset_fetch_ms".into(), self.fetch_ms.clone());
        let more = &mut report.more;
        for (name, count) in [
            ("assets_shared", self.offers),
            ("assets_refused", self.refusals),
            ("assets_broken_off", self.breaks),
            ("assets_withheld", self.withheld),
            ("asset_bytes_up", self.bytes_up),
            ("asset_bytes_down", self.bytes_down),
        ] {
            more.insert(name.into(), json!(count));
        }
        more.insert("asset_share_ms_p99".into(), json!(self.share_ms.percentile(99)));
        more.insert("why_no_asset".into(), json!(self.reasons));
        if self.fetches == 0 {
            report.invalid.push("no asset was fetched".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_fetched_and_what_was_wrong_is_counted() {
        let mut shared = Shared::default();
        let mut report = Report::default();
        shared.fill(&mut report);
        assert_eq!(report.invalid.len(), 1);
        shared.fetched(100, 3.0);
        shared.wrong += 1;
        shared.withheld += 1;
        let mut report = Report::default();
        shared.fill(&mut report);
        assert_eq!(report.number("assets_fetched"), Some(1.0));
        assert_eq!((report.number("assets_wrong"), report.invalid.len()), (Some(2.0), 0));
    }
}
