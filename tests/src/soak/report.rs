//! The result of a run: every key of the JSON, whether it counts, and what it is held against.
//!
//! What could not be measured is null and named in `not_measured`; nothing is guessed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

use super::spread::Spread;
use super::tally::Second;

/// Part of the load's core from which on it, not the server, may be what is slow.
const LOAD_CPU_MAX: f64 = 0.95;

/// Milliseconds that 99 of 100 inputs may leave late.
const LOAD_LATE_MS_MAX: f64 = 5.0;

/// Part of the frames due that must come.
const FRAMES_SHARE_MIN: f64 = 0.995;

/// Part of the inputs sent that must be applied.
const INPUTS_SHARE_MIN: f64 = 0.99;

/// Part of the ticks that must be made: world time is not slowed.
const TICKS_SHARE_MIN: f64 = 0.995;

/// Part of the ticks in which the 16 nearest must be told of: 15 a second at 20 Hz.
const NEAR_SHARE_MIN: f64 = 0.75;

/// Part of the ticks in which anybody in view must be told of: 4 a second at 20 Hz.
const IN_VIEW_SHARE_MIN: f64 = 0.2;

/// Milliseconds in which 99 of 100 of those who come near must be seen.
const APPEAR_MS_MAX: f64 = 250.0;

/// Every measured key, in the order of the report, with its unit or meaning for the table.
pub const KEYS: &[(&str, &str)] = &[
    ("clients_held", "clients inside all the time"),
    ("disconnects", "connections lost against everybody's will"),
    ("ticks_per_s", "ticks of the server a second"),
    ("frames_delivered_share", "frames received of those due"),
    ("inputs_applied_share", "inputs applied of those sent"),
    (
        "near_update_hz_p5",
        "updates a second of a moving body among the 16 nearest, slowest twentieth",
    ),
    ("far_update_hz_p5", "the same of any in view"),
    ("appear_ms_p99", "from when somebody is near until they are seen"),
    ("load_cpu_share", "part of one core that the load used"),
    ("load_late_ms_p99", "inputs left so late"),
    ("tick_ms_p50", "a tick of the server took"),
    ("tick_ms_p99", "the same, 99 of 100"),
    ("tick_ms_max", "the longest"),
    ("server_cpu_us_per_client_tick", "CPU of the server for one client and tick"),
    ("floor_us_per_client_tick", "CPU of kernel and cipher alone for the same bytes"),
    ("floor_ratio", "the one over the other"),
    ("one_way_ms_p99", "half a round trip, and until the client has taken the frame in"),
    ("state_age_ms_p99", "from a tick's first frame anywhere until a client has taken its own in"),
    ("input_to_seen_ms_p99", "from an input until another client has what it led to"),
    ("display_delay_ms_p95", "the display behind the fastest frame"),
    ("position_error_m_p95", "shown place from the true one at the shown moment"),
    ("correction_m_p95", "own prediction set right by"),
    ("downlink_kbit_s_per_client", "UDP payload received"),
    ("uplink_kbit_s_per_client", "UDP payload sent"),
    ("bytes_per_changed_entity", "bytes of frames by entry, heads and own bodies included"),
    ("server_rss_kb_per_client", "memory of the server above an empty world's"),
    ("joins_per_s", "clients let in a second"),
    ("handoffs_done", "bodies handed from shard to shard"),
    ("handoffs_lost", "bodies that nobody has, or that vanish beside somebody"),
    ("handoffs_duplicated", "bodies announced under two handles at once"),
    ("writes_lost", "acts acknowledged and not there at the end"),
    ("resume_s", "from a break until the session went on, 99 of 100"),
    ("assets_fetched", "assets of which every byte came and was right"),
    ("assets_wrong", "assets with wrong bytes, or withheld from those they are for"),
    ("asset_fetch_ms_p99", "a fetch took"),
    ("kills", "times that the server was killed and started again"),
    ("serving_again_s_max", "from a kill until it served again, the longest"),
    ("back_95_s_max", "from then until 95 of 100 clients were back, the longest"),
    ("acts_lost", "acts acknowledged and not there after a kill"),
    ("acts_doubled", "acts there more than once after a kill"),
];

/// A finished run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How it was run.
    pub run: Map<String, Value>,
    /// The keys of [`KEYS`]; absent ones were not measured.
    pub keys: Map<String, Value>,
    /// What else was counted.
    pub more: Map<String, Value>,
    /// What percentiles are made of, so that reports can be merged.
    pub spreads: BTreeMap<String, Spread>,
    /// Each second.
    pub seconds: Vec<Second>,
    /// Each tick's milliseconds, oldest first.
    pub ticks_ms: Vec<f32>,
    /// Why the run does not count, if it does not.
    pub invalid: Vec<String>,
}

impl Report {
    /// Sets a key; what is nothing or no number stays unmeasured.
    pub fn set(&mut self, key: &str, value: Option<f64>) {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            let rounded = (value * 10_000.0).round() / 10_000.0;
            self.keys.insert(key.to_owned(), json!(rounded));
        }
    }

    /// Returns a measured key.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<f64> {
        self.keys.get(key).and_then(Value::as_f64)
    }

    /// Finds out whether a run of so many clients at `hz` ticks a second counts, over a network that
    /// delivers such a part of the packets.
    pub fn judge(&mut self, (clients, hz, delivered): (u32, u16, f64), checks: u64) {
        let mut invalid = Vec::new();
        let mut require = |is_met: bool, why: String| {
            if !is_met {
                invalid.push(why);
            }
        };
        let key = |key| self.number(key);
        let load_cpu = key("load_cpu_share").unwrap_or(1.0);
        require(load_cpu < LOAD_CPU_MAX, format!("the load used {load_cpu:.2} of its core"));
        let late_ms = key("load_late_ms_p99").unwrap_or(f64::INFINITY);
        require(late_ms < LOAD_LATE_MS_MAX, format!("inputs left {late_ms:.1} ms late"));
        let inside = self.more.get("clients_in_at_start").and_then(Value::as_u64).unwrap_or(0);
        require(inside == u64::from(clients), format!("{inside} of {clients} came in"));
        require(checks > 0, "nothing was held against the truth".to_owned());
        for (name, least) in [
            ("frames_delivered_share", delivered * FRAMES_SHARE_MIN),
            ("inputs_applied_share", delivered * INPUTS_SHARE_MIN),
            ("ticks_per_s", TICKS_SHARE_MIN * f64::from(hz)),
            ("near_update_hz_p5", delivered * NEAR_SHARE_MIN * f64::from(hz)),
            ("far_update_hz_p5", delivered * IN_VIEW_SHARE_MIN * f64::from(hz)),
        ] {
            match key(name) {
                Some(value) => {
                    require(least <= value, format!("{name} is {value:.3}, below {least:.3}"));
                }
                None => require(false, format!("{name} is not known")),
            }
        }
        match key("appear_ms_p99") {
            Some(ms) => {
                require(ms <= APPEAR_MS_MAX, format!("those near were seen after {ms:.0} ms"));
            }
            None => require(false, "appear_ms_p99 is not known".to_owned()),
        }
        self.invalid = invalid;
    }

    /// Returns the whole report as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut all = Map::new();
        let mut not_measured = Vec::new();
        for (key, _) in KEYS {
            let value = self.keys.get(*key).cloned().unwrap_or(Value::Null);
            if value.is_null() {
                not_measured.push(json!(key));
            }
            all.insert((*key).to_owned(), value);
        }
        all.insert("valid".into(), json!(self.invalid.is_empty()));
        all.insert("invalid_because".into(), json!(self.invalid));
        all.insert("not_measured".into(), Value::Array(not_measured));
        all.insert("run".into(), Value::Object(self.run.clone()));
        all.insert("more".into(), Value::Object(self.more.clone()));
        all.insert("seconds".into(), json!(self.seconds));
        let spreads = self.spreads.iter().map(|(name, spread)| (name.clone(), spread.json()));
        all.insert("spreads".into(), Value::Object(spreads.collect()));
        Value::Object(all)
    }

    /// Returns what changed over time, one line a second.
    #[must_use]
    pub fn csv(&self) -> String {
        let mut text = String::from(
            "at_s,clients,frames_per_s,inputs_per_s,server_cpu,load_cpu,frames_kbit_s,server_rss_mb,lost\n",
        );
        let optional =
            |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.3}"));
        for second in &self.seconds {
            let written = writeln!(
                text,
                "{:.2},{},{:.1},{:.1},{},{:.3},{:.2},{},{}",
                second.at_s,
                second.clients,
                second.frames_per_s,
                second.inputs_per_s,
                optional(second.server_cpu),
                second.load_cpu,
                second.frames_kbit_s,
                optional(second.server_rss_mb),
                second.lost,
            );
            written.expect("writing to a string never fails");
        }
        text
    }
}

/// Returns the demands of `text` (`key<1; key>2`) that a report does not meet; one on a key that
/// was not measured is not met.
///
/// # Errors
/// When the text cannot be read; whoever typed it is at fault.
pub fn unmet(text: &str, report: &Report) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for condition in text.split([';', ',']).map(str::trim).filter(|text| !text.is_empty()) {
        let at = condition.find(['<', '>']);
        let at = at.with_context(|| format!("`{condition}`: expected KEY<NUMBER or KEY>NUMBER"))?;
        let (key, rest) = condition.split_at(at);
        let (key, (sign, limit)) = (key.trim(), rest.split_at(1));
        let limit: f64 =
            limit.trim().parse().with_context(|| format!("`{condition}`: no number"))?;
        if !KEYS.iter().any(|(known, _)| *known == key) {
            bail!("`{condition}`: there is no key `{key}`");
        }
        // A run fails if the condition holds, or if nobody can say.
        let fails = report.number(key).is_none_or(|value| match sign {
            "<" => value < limit,
            _ => limit < value,
        });
        if fails {
            let value =
                report.number(key).map_or_else(|| "not measured".into(), |it| it.to_string());
            found.push(format!("{condition}: {key} is {value}"));
        }
    }
    Ok(found)
}

/// Returns two reports side by side, as a table for people.
#[must_use]
pub fn compare(before: &Value, after: &Value) -> String {
    let mut text = format!("{:<32} {:>12} {:>12} {:>9}\n", "", "before", "after", "change");
    let shown =
        |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
    for (key, _) in KEYS {
        let [old, new] = [before, after].map(|report| report.get(*key).and_then(Value::as_f64));
        let change = match (old, new) {
            (Some(old), Some(new)) if old != 0.0 => {
                format!("{:+.1} %", (new / old - 1.0) * 100.0)
            }
            (Some(_) | None, _) => String::new(),
        };
        let line = format!("{key:<32} {:>12} {:>12} {change:>9}", shown(old), shown(new));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        report.set("tick_ms_p99", Some(12.0));
        report.set("load_cpu_share", Some(0.4));
        report.set("load_late_ms_p99", Some(2.0));
        report.set("one_way_ms_p99", None);
        for (name, least) in LEAST {
            report.set(name, Some(least));
        }
        report.set("appear_ms_p99", Some(250.0));
        report.more.insert("clients_in_at_start".into(), json!(5));
        report
    }

    /// What just counts at 20 ticks a second.
    const LEAST: [(&str, f64); 5] = [
        ("frames_delivered_share", 0.995),
        ("inputs_applied_share", 0.99),
        ("ticks_per_s", 19.9),
        ("near_update_hz_p5", 15.0),
        ("far_update_hz_p5", 4.0),
    ];

    #[test]
    fn what_was_not_measured_is_null_and_named() {
        let json = report().json();
        assert_eq!(json["tick_ms_p99"], json!(12.0));
        assert_eq!(json["one_way_ms_p99"], Value::Null);
        let named = json["not_measured"].as_array().expect("a list");
        assert!(named.contains(&json!("one_way_ms_p99")) && !named.contains(&json!("tick_ms_p99")));
        assert_eq!(named.len(), KEYS.len() - 4 - LEAST.len());
    }

    #[test]
    fn a_run_counts_only_if_the_load_kept_up_and_the_truth_was_looked_at() {
        let check = |change: &dyn Fn(&mut Report), checks: u64, expected: usize| {
            let mut report = report();
            change(&mut report);
            report.judge((5, 20, 1.0), checks);
            assert_eq!(report.invalid.len(), expected, "{:?}", report.invalid);
        };
        check(&|_| {}, 1, 0);
        check(&|_| {}, 0, 1);
        check(&|report| report.set("load_cpu_share", Some(0.97)), 1, 1);
        check(&|report| report.set("load_late_ms_p99", Some(5.1)), 1, 1);
        check(&|report| report.set("appear_ms_p99", Some(250.1)), 1, 1);
        check(&|report| drop(report.keys.remove("appear_ms_p99")), 1, 1);
        for (name, least) in LEAST {
            check(&|report| report.set(name, Some(least - 0.001)), 1, 1);
            check(&|report| drop(report.keys.remove(name)), 1, 1);
        }
        check(&|report| drop(report.more.insert("clients_in_at_start".into(), json!(4))), 1, 1);
    }

    #[test]
    fn demands_fail_where_they_hold_or_cannot_be_told() {
        let check = |text: &str, expected: usize| {
            assert_eq!(unmet(text, &report()).expect("readable").len(), expected, "{text}");
        };
        check("tick_ms_p99>50", 0);
        check("tick_ms_p99 > 10", 1);
        check("tick_ms_p99<20; load_cpu_share>0.9", 1);
        check("one_way_ms_p99>1000", 1);
        check("", 0);
        for bad in ["tick_ms_p99", "speed>3", "tick_ms_p99>fast"] {
            assert!(unmet(bad, &report()).is_err(), "{bad}");
        }
    }

    #[test]
    fn two_reports_stand_side_by_side() {
        let mut other = report();
        other.set("tick_ms_p99", Some(6.0));
        let table = compare(&report().json(), &other.json());
        let line = table.lines().find(|line| line.starts_with("tick_ms_p99")).expect("the key");
        assert!(line.ends_with("-50.0 %"), "{line}");
    }
}
