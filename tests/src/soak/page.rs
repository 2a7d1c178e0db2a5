//! The report as one HTML file with its plots: nothing is fetched, nothing runs.

use std::fmt::Write as _;

use serde_json::Value;

use super::report::{KEYS, Report};

/// Width and height of a plot, in units of its drawing.
const SIZE: (f64, f64) = (640.0, 200.0);

/// Room for the numbers: left, bottom, right, top.
const MARGIN: (f64, f64, f64, f64) = (46.0, 22.0, 8.0, 8.0);

/// Points of one line: two to a unit of width; beyond, the greatest of its neighbours stands.
const POINTS_MAX: usize = 1_280;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2733;--dim:#5d6b7a;--line:#dfe5ec;--card:#fff;--page:#f4f6f9;\
--a:#2563a8;--b:#c2571a;--good:#1d7a46;--bad:#b3261e}\
@media(prefers-color-scheme:dark){:root{--ink:#e6ebf1;--dim:#9aa8b7;--line:#2e3945;--card:#1a222b;\
--page:#12181f;--a:#6fb1f2;--b:#f0985a;--good:#5cc98a;--bad:#ff8a80}}\
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);\
font:15px/1.45 system-ui,sans-serif}main{max-width:1120px;margin:0 auto;padding:28px 20px 48px}\
h1{font-size:24px;margin:0 0 4px}h2{font-size:15px;margin:0 0 2px}p{margin:0;color:var(--dim)}\
.verdict{display:inline-block;margin:12px 0 18px;padding:5px 12px;border-radius:99px;\
font-weight:600;color:#fff;background:var(--good)}.verdict.bad{background:var(--bad)}\
.tiles,.plots{display:grid;gap:12px}.tiles{grid-template-columns:repeat(auto-fit,minmax(165px,1fr));\
margin-bottom:12px}.plots{grid-template-columns:repeat(auto-fit,minmax(430px,1fr));margin-bottom:12px}\
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:13px 15px}\
.tile b{display:block;font-size:23px;font-variant-numeric:tabular-nums}\
svg{display:block;width:100%;height:auto;margin-top:8px}svg text{fill:var(--dim);font-size:11px}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
td{padding:4px 8px 4px 0;border-top:1px solid var(--line)}td.n{text-align:right;white-space:nowrap}\
td.d{color:var(--dim)}code{font-size:13px}.key{display:inline-block;width:10px;height:10px;\
border-radius:3px;margin:0 4px 0 10px}@media(max-width:520px){.plots{grid-template-columns:1fr}}";

/// A line of a plot: its name, its colour's variable, and values by rising place.
struct Line<'a> {
    name: &'a str,
    colour: &'a str,
    points: Vec<(f64, f64)>,
}

/// Returns the page.
#[must_use]
pub fn html(report: &Report) -> String {
    let text = |key: &str| {
        let value = report.run.get(key).cloned().unwrap_or(Value::Null);
        escaped(&value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned))
    };
    let title = format!("{} clients, {}, {} s", text("clients"), text("scenario"), text("seconds"));
    let mut page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport \
         content=\"width=device-width\"><title>Soak: {title}</title><style>{STYLE}</style><main>\
         <h1>Soak: {title}</h1><p>{} · seed {} · <code>{}</code></p>",
        text("processor"),
        text("seed"),
        text("command"),
    );
    page.push_str(&verdict(report));
    page.push_str(&tiles(report));
    page.push_str(&plots(report));
    page.push_str(&table(report));
    page.push_str("</main></html>\n");
    page
}

fn verdict(report: &Report) -> String {
    if report.invalid.is_empty() {
        return "<div class=verdict>This run counts</div>".to_owned();
    }
    let why = escaped(&report.invalid.join("; "));
    format!("<div class=\"verdict bad\">This run does not count: {why}</div>")
}

fn tiles(report: &Report) -> String {
    let tiles = [
        ("clients_held", "clients held", ""),
        ("disconnects", "connections lost", ""),
        ("tick_ms_p50", "tick, half", " ms"),
        ("tick_ms_p99", "tick, 99 of 100", " ms"),
        ("server_cpu_us_per_client_tick", "CPU per client and tick", " µs"),
        ("input_to_seen_ms_p99", "input until seen, 99 of 100", " ms"),
    ];
    let mut html = String::from("<div class=tiles>");
    for (key, name, unit) in tiles {
        let value = report
            .number(key)
            .map_or_else(|| "–".to_owned(), |value| format!("{}{unit}", short(value)));
        write(&mut html, format_args!("<div class=\"card tile\"><b>{value}</b>{name}</div>"));
    }
    html + "</div>"
}

fn plots(report: &Report) -> String {
    let seconds = &report.seconds;
    let by_second = |value: &dyn Fn(&super::tally::Second) -> Option<f64>| -> Vec<(f64, f64)> {
        seconds.iter().filter_map(|second| Some((second.at_s, value(second)?))).collect()
    };
    let hz = report.run.get("hz").and_then(Value::as_f64).unwrap_or(20.0);
    let ticks = report.ticks_ms.iter().enumerate();
    let ticks = ticks.map(|(tick, &ms)| (tick as f64 / hz, f64::from(ms))).collect();
    let mut spread: Vec<f64> = report.ticks_ms.iter().map(|&ms| f64::from(ms)).collect();
    spread.sort_by(f64::total_cmp);
    let last = spread.len().saturating_sub(1).max(1) as f64;
    let ranks = spread.iter().enumerate().map(|(rank, &ms)| (rank as f64 / last * 100.0, ms));
    let line = |name, colour, points| Line { name, colour, points };
    let cards = [
        plot("Tick", "milliseconds, over seconds", &[line("tick", "--a", ticks)]),
        plot(
            "Ticks by length",
            "milliseconds, over percent of ticks",
            &[line("at most", "--a", ranks.collect())],
        ),
        plot(
            "CPU",
            "part of one core, over seconds",
            &[
                line("server", "--a", by_second(&|second| second.server_cpu)),
                line("load", "--b", by_second(&|second| Some(second.load_cpu))),
            ],
        ),
        plot(
            "Frames to one client",
            "kbit/s of payload, over seconds",
            &[line("frames", "--a", by_second(&|second| Some(second.frames_kbit_s)))],
        ),
        plot(
            "Datagrams",
            "a second, all clients, over seconds",
            &[
                line("frames in", "--a", by_second(&|second| Some(second.frames_per_s))),
                line("inputs out", "--b", by_second(&|second| Some(second.inputs_per_s))),
            ],
        ),
        plot(
            "Memory of the server",
            "megabytes, over seconds",
            &[line("resident", "--a", by_second(&|second| second.server_rss_mb))],
        ),
    ];
    format!("<div class=plots>{}</div>", cards.concat())
}

fn plot(name: &str, unit: &str, lines: &[Line<'_>]) -> String {
    let mut html = format!("<div class=card><h2>{name}</h2><p>{unit}");
    for line in lines.iter().filter(|_| lines.len() > 1) {
        let (colour, name) = (line.colour, line.name);
        write(
            &mut html,
            format_args!("<i class=key style=\"background:var({colour})\"></i>{name}"),
        );
    }
    html.push_str("</p>");
    let all = || lines.iter().flat_map(|line| &line.points);
    if all().next().is_none() {
        return html + "<p>not measured</p></div>";
    }
    let (width, height) = SIZE;
    let (left, bottom, right, top) = MARGIN;
    let x_max = nice(all().map(|point| point.0).fold(0.0, f64::max), false);
    let y_max = nice(all().map(|point| point.1).fold(0.0, f64::max), true);
    let place = |(x, y): (f64, f64)| {
        let x = left + x / x_max * (width - left - right);
        (x, height - bottom - y / y_max * (height - top - bottom))
    };
    write(&mut html, format_args!("<svg viewBox=\"0 0 {width} {height}\" role=img>"));
    for part in 0..=4 {
        let part = f64::from(part) / 4.0;
        let ((_, y), (x, _)) = (place((0.0, part * y_max)), place((part * x_max, 0.0)));
        write(
            &mut html,
            format_args!(
                "<line x1={left} x2={} y1={y:.1} y2={y:.1} stroke=\"var(--line)\"/>\
             <text x={} y={:.1} text-anchor=end>{}</text>\
             <text x={x:.1} y={} text-anchor={}>{}</text>",
                width - right,
                left - 6.0,
                y + 4.0,
                short(part * y_max),
                height - 6.0,
                if part == 1.0 { "end" } else { "middle" },
                short(part * x_max),
            ),
        );
    }
    for line in lines {
        let points = thinned(&line.points).into_iter().map(place);
        let points: Vec<_> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        write(
            &mut html,
            format_args!(
                "<polyline points=\"{}\" fill=none stroke=\"var({})\" stroke-width=1.5 \
             stroke-linejoin=round><title>{}</title></polyline>",
                points.join(" "),
                line.colour,
                line.name,
            ),
        );
    }
    html + "</svg></div>"
}

fn table(report: &Report) -> String {
    let mut html = String::from("<div class=card><h2>Everything measured</h2><table>");
    for (key, meaning) in KEYS {
        let value = report.number(key).map_or_else(|| "not measured".to_owned(), short);
        write(
            &mut html,
            format_args!(
                "<tr><td><code>{key}</code><td class=n>{value}<td class=d>{}",
                escaped(meaning),
            ),
        );
    }
    for (key, value) in &report.more {
        let value = value.as_f64().map_or_else(|| value.to_string(), short);
        write(
            &mut html,
            format_args!("<tr><td><code>{key}</code><td class=n>{}<td class=d>", escaped(&value),),
        );
    }
    html + "</table></div>"
}

/// Returns so few points that a line has no more than its drawing shows, peaks kept.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let step = points.len().div_ceil(POINTS_MAX).max(1);
    let greatest = |part: &[(f64, f64)]| part.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
    points.chunks(step).filter_map(greatest).collect()
}

/// Returns the end of an axis that reaches to `max`: a round number if asked for.
fn nice(max: f64, is_round: bool) -> f64 {
    if max <= 0.0 || !max.is_finite() {
        return 1.0;
    }
    if !is_round {
        return max;
    }
    let scale = 10_f64.powi(max.log10().floor() as i32);
    let steps = [1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 6.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * scale).find(|&end| max <= end).unwrap_or(max)
}

/// Returns a number with as many digits as people read.
fn short(value: f64) -> String {
    let text = match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    };
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn write(html: &mut String, text: std::fmt::Arguments<'_>) {
    html.write_fmt(text).expect("writing to a string never fails");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_one_file_that_runs_nothing() {
        let mut report = Report::default();
        report.run.insert("scenario".into(), "<script>".into());
        report.ticks_ms = vec![1.0, 2.0, 40.0];
        let page = html(&report);
        for bad in ["<script", "http://", "https://", "src=", "NaN", "inf"] {
            assert!(!page.contains(bad), "{bad}");
        }
        assert!(page.contains("polyline") && page.contains("not measured"));
    }

    #[test]
    fn thinning_keeps_the_peak() {
        let points: Vec<_> =
            (0..50_000).map(|at| (f64::from(at), if at == 31_234 { 99.0 } else { 1.0 })).collect();
        let thin = thinned(&points);
        assert!(thin.len() <= POINTS_MAX && thin.iter().any(|point| point.1 == 99.0));
    }

    #[test]
    fn axes_end_at_round_numbers() {
        for (max, end) in [(0.0, 1.0), (7.3, 8.0), (101.0, 120.0), (0.03, 0.032)] {
            assert!((nice(max, true) - end).abs() < 1e-9, "{max}");
        }
    }
}
