//! One report of several generators that loaded one server at the same time.
//!
//! Counts are added, percentiles come from the spreads that the reports carry, shares from the
//! counts behind them. What cannot be told of all together is null and named; nothing is guessed.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value, json};

use super::report::Report;
use super::spread::Spread;
use super::tally::Second;

/// How a key of several reports becomes one.
enum Rule {
    /// They are added.
    Sum,
    /// The worst of them: each generator has a core of its own.
    Greatest,
    /// The mean, each by how many clients it had.
    Mean,
    /// So many percent of a spread.
    Percentile(&'static str, u64),
    /// One count of `more` over another.
    Share(&'static str, &'static str),
    /// A count that the server gives to each alike, over one that is added.
    ServerShare(&'static str, &'static str),
    /// A number that the server gives to each alike.
    Server,
}

/// The keys that can be merged; all others cannot.
const RULES: &[(&str, Rule)] = &[
    ("clients_held", Rule::Sum),
    ("disconnects", Rule::Sum),
    ("ticks_per_s", Rule::Server),
    ("frames_delivered_share", Rule::Share("frames", "frames_due")),
    ("inputs_applied_share", Rule::ServerShare("inputs_applied", "inputs_sent")),
    ("near_update_hz_p5", Rule::Percentile("near_hz", 5)),
    ("far_update_hz_p5", Rule::Percentile("in_view_hz", 5)),
    ("load_cpu_share", Rule::Greatest),
    ("load_late_ms_p99", Rule::Percentile("late_ms", 99)),
    ("floor_us_per_client_tick", Rule::Mean),
    ("state_age_ms_p99", Rule::Percentile("state_age_ms", 99)),
    ("appear_ms_p99", Rule::Percentile("appear_ms", 99)),
    ("one_way_ms_p99", Rule::Percentile("one_way_ms", 99)),
    ("input_to_seen_ms_p99", Rule::Percentile("input_to_seen_ms", 99)),
    ("display_delay_ms_p95", Rule::Percentile("display_delay_ms", 95)),
    ("position_error_m_p95", Rule::Percentile("position_error_m", 95)),
    ("correction_m_p95", Rule::Percentile("correction_m", 95)),
    ("downlink_kbit_s_per_client", Rule::Mean),
    ("uplink_kbit_s_per_client", Rule::Mean),
    ("bytes_per_changed_entity", Rule::Share("frame_bytes", "states")),
    ("joins_per_s", Rule::Sum),
    ("handoffs_done", Rule::Server),
    ("handoffs_lost", Rule::Sum),
    ("handoffs_duplicated", Rule::Sum),
    ("resume_s", Rule::Percentile("resume_s", 99)),
    ("assets_fetched", Rule::Sum),
    ("assets_wrong", Rule::Sum),
    ("asset_fetch_ms_p99", Rule::Percentile("asset_fetch_ms", 99)),
];

/// Counts of `more` that are added.
const COUNTS: &[&str] = &[
    "clients_in_at_start",
    "frames",
    "frames_due",
    "bad_frames",
    "frame_bytes",
    "states",
    "inputs_sent",
    "joins",
    "entries_refused",
    "requests_done",
    "requests_refused",
    "utterances_heard",
    "chunks_taken_in",
    "truth_checks",
    "truth_mismatches",
    "truth_unknown",
    "assets_shared",
    "assets_refused",
    "assets_broken_off",
    "assets_withheld",
    "asset_bytes_up",
    "asset_bytes_down",
];

/// Returns the report of all `parts`, each with what it is called.
///
/// # Errors
/// When one is no report of a soak, or carries a spread that cannot be read, or two had the same
/// clients.
pub fn merge(parts: &[(String, Value)]) -> Result<Report> {
    ensure!(parts.len() > 1, "there is nothing to merge: name two reports or more");
    let mut of_seed = BTreeMap::new();
    for (name, part) in parts {
        let Some(seed) = part["run"]["seed"].as_u64() else { continue };
        if let Some(other) = of_seed.insert(seed, name) {
            bail!(
                "{other} and {name} are both of seed {seed}, so of the same clients; give each \
                 generator a --seed of its own"
            );
        }
    }
    let mut report = Report { run: described(parts)?, ..Report::default() };
    for (name, part) in parts {
        let carried = part["spreads"].as_object();
        let carried = carried.with_context(|| format!("{name} carries no spreads to merge"))?;
        for (key, spread) in carried {
            let spread = Spread::from_json(spread);
            let spread = spread.with_context(|| format!("{name}: the spread {key} is damaged"))?;
            report.spreads.entry(key.clone()).or_default().merge(&spread);
        }
        let reasons = part["invalid_because"].as_array().into_iter().flatten();
        let reasons = reasons.filter_map(Value::as_str);
        report.invalid.extend(reasons.map(|why| format!("{name}: {why}")));
    }
    for &count in COUNTS {
        if let Some(sum) = sum(&all(parts, |part| part["more"][count].as_u64())) {
            report.more.insert(count.into(), json!(sum));
        }
    }
    for (key, rule) in RULES {
        report.set(key, value(key, rule, parts, &report));
    }
    report.seconds = seconds(parts)?;
    Ok(report)
}

fn value(key: &str, rule: &Rule, parts: &[(String, Value)], report: &Report) -> Option<f64> {
    let number = |part: &Value| part[key].as_f64();
    let counted = |name: &str| report.more.get(name).and_then(Value::as_f64);
    let share = |part: f64, whole: f64| (whole > 0.0).then_some(part / whole);
    match rule {
        Rule::Sum => Some(all(parts, number)?.into_iter().sum()),
        Rule::Greatest => all(parts, number)?.into_iter().reduce(f64::max),
        Rule::Mean => {
            let clients = all(parts, clients_of)?;
            let weighed = all(parts, number)?.into_iter().zip(&clients);
            share(weighed.map(|(value, clients)| value * clients).sum(), clients.iter().sum())
        }
        // A number of which only one generator has values is not everybody's.
        Rule::Percentile(spread, percent) => {
            all(parts, number)?;
            report.spreads.get(*spread)?.percentile(*percent)
        }
        Rule::Share(part, whole) => share(counted(part)?, counted(whole)?),
        Rule::ServerShare(part, whole) => {
            let seen = all(parts, |of| of["more"][part].as_f64())?;
            share(seen.iter().sum::<f64>() / seen.len() as f64, counted(whole)?)
        }
        Rule::Server => {
            let seen = all(parts, number)?;
            Some(seen.iter().sum::<f64>() / seen.len() as f64)
        }
    }
}

/// Returns a value of every part; nothing if one lacks it.
fn all<T>(parts: &[(String, Value)], of: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    parts.iter().map(|(_, part)| of(part)).collect()
}

fn sum(counts: &Option<Vec<u64>>) -> Option<u64> {
    counts.as_ref().map(|counts| counts.iter().sum())
}

fn clients_of(part: &Value) -> Option<f64> {
    part["run"]["clients"].as_f64()
}

/// Returns how all of them were run: what is the same in all, and the sum of their clients.
fn described(parts: &[(String, Value)]) -> Result<Map<String, Value>> {
    let mut runs = Vec::new();
    for (name, part) in parts {
        let run = part["run"].as_object();
        runs.push(run.with_context(|| format!("{name} is no report of ecumene-soak"))?);
    }
    let mut run = runs[0].clone();
    run.retain(|key, value| runs.iter().all(|run| run.get(key) == Some(value)));
    let clients = all(parts, |part| part["run"]["clients"].as_u64());
    run.insert("clients".into(), json!(sum(&clients)));
    let names: Vec<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
    run.insert("command".into(), json!(format!("ecumene-soak merge {}", names.join(" "))));
    run.insert("generators".into(), json!(parts.len()));
    Ok(run)
}

/// Returns the seconds that all of them have, each of the same number after its own beginning.
fn seconds(parts: &[(String, Value)]) -> Result<Vec<Second>> {
    let mut runs: Vec<Vec<Second>> = Vec::new();
    for (name, part) in parts {
        let seconds = serde_json::from_value(part["seconds"].clone());
        runs.push(seconds.with_context(|| format!("{name}: its seconds are damaged"))?);
    }
    let mut merged: BTreeMap<usize, Second> = BTreeMap::new();
    let length = runs.iter().map(Vec::len).min().unwrap_or(0);
    let count = runs.len() as f64;
    for run in &runs {
        for (at, second) in run.iter().take(length).enumerate() {
            let all = merged.entry(at).or_default();
            all.at_s = second.at_s;
            all.clients += second.clients;
            all.frames_per_s += second.frames_per_s;
            all.inputs_per_s += second.inputs_per_s;
            all.load_cpu = all.load_cpu.max(second.load_cpu);
            all.frames_kbit_s += second.frames_kbit_s / count;
            all.server_cpu = all.server_cpu.or(second.server_cpu);
            all.server_rss_mb = all.server_rss_mb.or(second.server_rss_mb);
            all.lost += second.lost;
        }
    }
    Ok(merged.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report of so many clients whose inputs left so many milliseconds late.
    fn part(clients: u64, late_ms: &[f64], frames: (u64, u64)) -> Value {
        let mut report = Report::default();
        report.run.insert("clients".into(), json!(clients));
        report.run.insert("scenario".into(), json!("spread"));
        report.run.insert("seed".into(), json!(clients));
        let mut spread = Spread::default();
        late_ms.iter().for_each(|&ms| spread.add(ms));
        report.set("load_late_ms_p99", spread.percentile(99));
        report.set("clients_held", Some(clients as f64));
        report.set("uplink_kbit_s_per_client", Some(clients as f64));
        report.set("tick_ms_p99", Some(9.0));
        report.set("load_cpu_share", Some(0.1 * clients as f64));
        report.spreads.insert("late_ms".into(), spread);
        report.more.insert("frames".into(), json!(frames.0));
        report.more.insert("frames_due".into(), json!(frames.1));
        report.more.insert("inputs_applied".into(), json!(90.0));
        report.more.insert("inputs_sent".into(), json!(50));
        report.seconds.push(Second { clients: 3, load_cpu: 0.1, ..Second::default() });
        report.json()
    }

    fn merged(parts: &[Value]) -> Result<Value> {
        let named = |(at, part): (usize, &Value)| (format!("{at}.json"), part.clone());
        Ok(merge(&parts.iter().enumerate().map(named).collect::<Vec<_>>())?.json())
    }

    #[test]
    fn two_reports_become_one() {
        let all = merged(&[part(1, &[1.0; 99], (90, 100)), part(3, &[8.0; 1], (300, 300))]);
        let all = all.expect("two reports");
        let number = |key: &str| all[key].as_f64();
        assert_eq!(number("clients_held"), Some(4.0));
        assert_eq!(number("frames_delivered_share"), Some(0.975));
        assert_eq!(number("inputs_applied_share"), Some(0.9));
        assert_eq!(number("uplink_kbit_s_per_client"), Some(2.5), "by clients");
        assert_eq!(number("load_cpu_share"), Some(0.3), "the worst");
        // 99 of 100 values are 1.
        assert!(number("load_late_ms_p99").is_some_and(|ms| (0.99..1.02).contains(&ms)), "{all}");
        assert_eq!(all["run"]["clients"], json!(4));
        assert_eq!(
            (&all["run"]["scenario"], &all["run"]["seed"]),
            (&json!("spread"), &Value::Null)
        );
        assert_eq!(all["seconds"][0]["clients"], json!(6));
        let not_measured = all["not_measured"].as_array().expect("a list");
        assert!(not_measured.contains(&json!("tick_ms_p99")), "of no generator alone");
    }

    #[test]
    fn one_that_is_merged_can_be_merged_again() {
        let two = merged(&[part(1, &[1.0; 10], (1, 1)), part(3, &[2.0; 10], (1, 1))]);
        let three = merged(&[two.expect("two"), part(2, &[3.0; 80], (1, 1))]).expect("three");
        assert_eq!(three["clients_held"], json!(6.0));
        let late_ms = three["load_late_ms_p99"].as_f64().expect("a percentile");
        assert!((2.97..=3.03).contains(&late_ms), "{late_ms}");
    }

    #[test]
    fn what_is_no_report_is_said_to_be_none() {
        assert!(merged(&[part(1, &[], (1, 1))]).is_err(), "one alone");
        let twice = merged(&[part(1, &[], (1, 1)), part(1, &[], (1, 1))]).expect_err("one twice");
        assert!(twice.to_string().starts_with("0.json and 1.json are both of seed 1"), "{twice}");
        let error = merged(&[part(1, &[], (1, 1)), json!({})]).expect_err("no report");
        assert!(error.to_string().contains("1.json is no report"), "{error:#}");
        let mut bad = part(2, &[1.0], (1, 1));
        bad["spreads"]["late_ms"]["buckets"] = json!([[9_999_999, 1]]);
        assert!(merged(&[part(1, &[], (1, 1)), bad]).is_err());
    }
}
