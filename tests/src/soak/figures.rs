//! From what was counted to the keys of the report.

use protocol::io::clock::now_us;
use serde_json::{Value, json};

use super::crowd::Crowd;
use super::host::{Counters, Host, cpu_us};
use super::report::Report;
use super::tally::Tally;
use super::truth::Verdicts;

/// What stood at one moment.
pub struct Mark {
    /// When that was, on the monotonic clock.
    pub at_us: u64,
    /// The server's counts.
    pub counters: Counters,
    /// Microseconds of CPU that the load had used.
    pub load_cpu_us: f64,
    /// UDP payload received and sent by all clients.
    pub bytes: (u64, u64),
}

impl Mark {
    /// Looks at everything now.
    #[must_use]
    pub fn now(crowd: &Crowd, host: &Host) -> Self {
        Self {
            at_us: now_us(),
            counters: host.counters(),
            load_cpu_us: cpu_us(std::process::id()).unwrap_or(0.0),
            bytes: crowd.bytes(),
        }
    }
}

/// Puts in what the server's counts between two marks say, against those of the empty world; with a
/// gap some ticks were missed.
pub fn fill_server(
    report: &mut Report,
    (empty, first, last): (&Counters, &Mark, &Mark),
    clients: u32,
    has_gap: bool,
) {
    let wall_s = (last.at_us - first.at_us) as f64 / 1e6;
    let delta = |of: fn(&Counters) -> Option<f64>| {
        of(&last.counters).zip(of(&first.counters)).map(|(last, first)| last - first)
    };
    let ticks = delta(|counters| counters.ticks);
    report.set("ticks_per_s", ticks.map(|ticks| ticks / wall_s));
    let mut sorted: Vec<f64> = report.ticks_ms.iter().map(|&ms| f64::from(ms)).collect();
    sorted.sort_by(f64::total_cmp);
    let rank = |percent: usize| {
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied()
    };
    report.set("tick_ms_p50", rank(50));
    report.set("tick_ms_p99", rank(99));
    report.set("tick_ms_max", rank(100));
    let cpu = delta(|counters| counters.cpu_us);
    let client_ticks = ticks.map(|ticks| ticks * f64::from(clients));
    report.set(
        "server_cpu_us_per_client_tick",
        cpu.zip(client_ticks).map(|(cpu, ticks)| cpu / ticks),
    );
    let rss = last.counters.rss_kb.zip(empty.rss_kb).map(|(last, empty)| last - empty);
    report.set("server_rss_kb_per_client", rss.map(|kb| kb / f64::from(clients)));
    report.set("handoffs_done", delta(|counters| counters.handoffs));
    let more = &mut report.more;
    more.insert("ticks_measured".into(), json!(sorted.len()));
    more.insert("ticks_missed_by_the_measurement".into(), json!(has_gap));
    more.insert("server_cpu_share".into(), json!(cpu.map(|cpu| cpu / wall_s / 1e6)));
    more.insert("ticks_skipped".into(), json!(delta(|counters| counters.ticks_skipped)));
    let applied = delta(|counters| counters.inputs_applied);
    more.insert("inputs_applied".into(), json!(applied));
}

/// Puts in what went to and fro between two marks.
pub fn fill_traffic(
    report: &mut Report,
    (first, last): (&Mark, &Mark),
    tally: &Tally,
    clients: u32,
) {
    let wall_us = (last.at_us - first.at_us) as f64;
    let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
    report.set("disconnects", Some(tally.disconnects as f64));
    report.set("frames_delivered_share", share(tally.frames, tally.frames_due));
    let applied = report.more.get("inputs_applied").and_then(Value::as_f64);
    let inputs = tally.inputs as f64;
    report.set("inputs_applied_share", applied.filter(|_| inputs > 0.0).map(|it| it / inputs));
    report.set("load_cpu_share", Some((last.load_cpu_us - first.load_cpu_us) / wall_us));
    report.set("load_late_ms_p99", tally.late_ms.percentile(99));
    let kbit_s = |bytes: u64| bytes as f64 * 8_000.0 / wall_us / f64::from(clients);
    // What a connection carried that broke unexpectedly may be lost: then this cannot be told.
    let down = last.bytes.0.checked_sub(first.bytes.0);
    let up = last.bytes.1.checked_sub(first.bytes.1);
    report.set("downlink_kbit_s_per_client", down.map(kbit_s));
    report.set("uplink_kbit_s_per_client", up.map(kbit_s));
    report.set("bytes_per_changed_entity", share(tally.frame_bytes, tally.states));
    let joins = tally.joined_us.filter(|(first, last)| first < last);
    report.set(
        "joins_per_s",
        joins.map(|(first, last)| {
            tally.joins.saturating_sub(1) as f64 * 1e6 / (last - first) as f64
        }),
    );
    report.set("resume_s", tally.resume_s.percentile(99));
    let more = &mut report.more;
    more.insert(
        "datagram_bytes_down".into(),
        json!(down.and_then(|down| share(down, tally.frames))),
    );
    more.insert("datagram_bytes_up".into(), json!(up.and_then(|up| share(up, tally.inputs))));
    more.insert("entities_per_frame".into(), json!(share(tally.states, tally.frames)));
    for (name, count) in [
        ("frames", tally.frames),
        ("frames_due", tally.frames_due),
        ("frame_bytes", tally.frame_bytes),
        ("states", tally.states),
        ("bad_frames", tally.bad_frames),
        ("inputs_sent", tally.inputs),
        ("joins", tally.joins),
        ("entries_refused", tally.refused),
        ("crossings_seen", tally.crossings),
        ("requests_done", tally.done),
        ("requests_refused", tally.refusals),
        ("utterances_heard", tally.heard),
        ("chunks_taken_in", tally.chunks),
    ] {
        more.insert(name.into(), json!(count));
    }
    more.insert("answer_ms_p99".into(), json!(tally.answer_ms.percentile(99)));
    more.insert("why_lost".into(), json!(tally.reasons));
}

/// Puts in what was held against the truth.
pub fn fill_truth(report: &mut Report, verdicts: &Verdicts, tally: &Tally) {
    report.set("near_update_hz_p5", verdicts.near_hz.percentile(5));
    report.set("far_update_hz_p5", verdicts.in_view_hz.percentile(5));
    report.set("state_age_ms_p99", tally.state_age_ms.percentile(99));
    report.set("one_way_ms_p99", tally.one_way_ms.percentile(99));
    report.set("input_to_seen_ms_p99", verdicts.input_to_seen_ms.percentile(99));
    report.set("position_error_m_p95", verdicts.position_error_m.percentile(95));
    report.set("display_delay_ms_p95", tally.display_delay_ms.percentile(95));
    report.set("correction_m_p95", tally.correction_m.percentile(95));
    let more = &mut report.more;
    more.insert("truth_checks".into(), json!(verdicts.checks));
    more.insert("truth_mismatches".into(), json!(verdicts.mismatches));
    more.insert("truth_error_cm_max".into(), json!(verdicts.error_cm.max()));
    more.insert("truth_unknown".into(), json!(verdicts.unknown));
    more.insert("one_way_ms_p50".into(), json!(tally.one_way_ms.percentile(50)));
    more.insert("known_age_ms_p99".into(), json!(verdicts.known_age_ms.percentile(99)));
    more.insert("input_to_seen_ms_p50".into(), json!(verdicts.input_to_seen_ms.percentile(50)));
    more.insert("position_error_m_p50".into(), json!(verdicts.position_error_m.percentile(50)));
    more.insert("correction_m_p99".into(), json!(tally.correction_m.percentile(99)));
}

/// Puts in how many crossed borders, and how often regions changed, between two marks.
pub fn fill_crossings(report: &mut Report, (first, last): (&Mark, &Mark)) {
    let wall_s = (last.at_us - first.at_us) as f64 / 1e6;
    let handoffs = report.number("handoffs_done").map(|done| done / wall_s);
    report.more.insert("handoffs_per_s".into(), json!(handoffs));
    let divided = last.counters.divisions.zip(first.counters.divisions);
    report.more.insert("divisions_done".into(), json!(divided.map(|(last, first)| last - first)));
}
