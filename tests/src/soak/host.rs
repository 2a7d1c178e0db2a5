//! The server under load, seen from outside: its process, its metrics and its ticks.
//!
//! Reads `/proc`, `/metrics` and the operators' socket; it changes nothing there but the cores.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use server::admin::{AdminReply, AdminRequest};

/// How long the page of metrics may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Bytes of the page of metrics: a tenth of this is usual.
const PAGE_BYTES_MAX: u64 = 1 << 20;

/// Ticks of the newest history by which it is joined to the one before: no two stretches of so
/// many measured times are alike.
const OVERLAP_TICKS: usize = 16;

/// What is known of the server under load.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its process, if it runs here.
    pub pid: Option<u32>,
    /// Where its metrics are.
    pub http: Option<SocketAddr>,
    /// The folder of its world, if it runs here.
    pub world: Option<PathBuf>,
}

/// The server's counters at one moment; nothing where they cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counters {
    /// Microseconds of CPU the process used.
    pub cpu_us: Option<f64>,
    /// Kilobytes of it in RAM.
    pub rss_kb: Option<f64>,
    /// Ticks stepped.
    pub ticks: Option<f64>,
    /// Ticks that fell due while another one ran.
    pub ticks_skipped: Option<f64>,
    /// Inputs applied.
    pub inputs_applied: Option<f64>,
    /// Bodies handed from one shard to another.
    pub handoffs: Option<f64>,
    /// Regions split, and merged.
    pub divisions: Option<f64>,
}

impl Host {
    /// Reads every counter.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let page = self.http.and_then(|http| metrics_page(http).ok());
        let metric = |name: &str| page.as_deref().and_then(|page| metric(page, name));
        Counters {
            cpu_us: self.pid.and_then(cpu_us),
            rss_kb: self.pid.and_then(rss_kb),
            ticks: metric("ecumene_ticks_total"),
            ticks_skipped: metric("ecumene_ticks_skipped_total"),
            inputs_applied: metric("ecumene_inputs_applied_total"),
            handoffs: metric("ecumene_handoffs_total"),
            divisions: metric("ecumene_divisions_total"),
        }
    }

    /// Returns how long the server's last ticks took, in milliseconds, oldest first.
    ///
    /// # Errors
    /// When the server does not run here, or does not answer.
    pub fn last_ticks_ms(&self) -> Result<Vec<f32>> {
        let world = self.world.as_deref().context("the server's folder is not known")?;
        let reply = server::io::admin::call(world, AdminRequest::Status, |_| {})?;
        let AdminReply::Status(status) = reply else {
            bail!("the server answered a request for its status with {reply:?}");
        };
        Ok(status.tick_history)
    }

    /// Returns of how many clients the shards together say that they have the body.
    ///
    /// # Errors
    /// When the server does not run here, or does not answer.
    pub fn clients_in_shards(&self) -> Result<u32> {
        let world = self.world.as_deref().context("the server's folder is not known")?;
        let reply = server::io::admin::call(world, AdminRequest::Status, |_| {})?;
        let AdminReply::Status(status) = reply else {
            bail!("the server answered a request for its status with {reply:?}");
        };
        Ok(status.shards.iter().map(|shard| shard.clients).sum())
    }

    /// Keeps the server on one core and the load on another.
    ///
    /// # Errors
    /// When `taskset` is missing or refuses.
    pub fn pin(&self, server_core: u32, load_core: u32) -> Result<()> {
        if let Some(pid) = self.pid {
            taskset(server_core, pid)?;
        }
        taskset(load_core, std::process::id())
    }
}

/// Returns the part of `newest` that comes after all that `known` ends with, or nothing if the two
/// do not overlap, that is, if ticks were missed in between.
#[must_use]
pub fn continued<'a>(known: &[f32], newest: &'a [f32]) -> Option<&'a [f32]> {
    let Some(end) = known.len().checked_sub(OVERLAP_TICKS) else { return Some(newest) };
    let tail = &known[end..];
    let at = newest.windows(OVERLAP_TICKS).rposition(|window| window == tail)?;
    newest.get(at + OVERLAP_TICKS..)
}

/// Returns the microseconds of CPU that a process used, to 10 ms.
#[must_use]
pub fn cpu_us(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; user and system time are 12th and 13th after it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let jiffies = |index: usize| fields.get(index)?.parse::<f64>().ok();
    // 100 a second, on every Linux that programs can see.
    Some((jiffies(11)? + jiffies(12)?) * 10_000.0)
}

fn rss_kb(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn metrics_page(http: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&http, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.take(PAGE_BYTES_MAX).read_to_string(&mut page)?;
    ensure!(page.starts_with("HTTP/1.1 200"), "no metrics at {http}");
    Ok(page)
}

/// Returns the value of a metric without labels.
fn metric(page: &str, name: &str) -> Option<f64> {
    let mut lines = page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    lines.next()?.trim().parse().ok()
}

/// Keeps a process on one core.
///
/// # Errors
/// When `taskset` is missing or refuses.
pub fn taskset(core: u32, pid: u32) -> Result<()> {
    let mut command = Command::new("taskset");
    command.args(["--all-tasks", "--cpu-list", "--pid", &core.to_string(), &pid.to_string()]);
    let output = command.output().context("run taskset, of the package util-linux")?;
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "taskset does not pin process {pid} to core {core}: {why}");
    Ok(())
}

/// Returns the name of this machine's processor.
#[must_use]
pub fn processor() -> String {
    let text = std::fs::read_to_string(Path::new("/proc/cpuinfo")).unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histories_join_where_they_overlap() {
        let all: Vec<f32> = (0..100).map(|tick| tick as f32).collect();
        assert_eq!(continued(&all[..60], &all[30..]), Some(&all[60..]));
        assert_eq!(continued(&[], &all), Some(all.as_slice()));
        assert_eq!(continued(&all[..30], &all[40..]), None, "ticks were missed");
        assert_eq!(continued(&all, &all), Some([].as_slice()));
    }

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let page = "# TYPE a_total counter\na_total_more 3\na_total{kind=\"x\"} 4\na_total 5\n";
        assert_eq!(metric(page, "a_total"), Some(5.0));
        assert_eq!(metric(page, "b_total"), None);
    }

    #[test]
    fn this_process_uses_time_and_memory() {
        let me = std::process::id();
        assert!(cpu_us(me).is_some() && rss_kb(me).is_some_and(|kb| kb > 100.0));
    }
}
