//! Commands about shards, and addresses to which a world moves.

use clap::Subcommand;

use crate::admin::AdminRequest;

/// What can be done with shards.
#[derive(Clone, Debug, Subcommand)]
pub enum ShardsCommand {
    /// Split a region into its four quarters, while everybody plays on
    Split {
        /// Which, as `ecumene shards` lists them.
        #[arg(value_name = "ID")]
        region: u32,
    },
    /// Merge a region with the three that it was split off with
    Merge {
        /// Any of the four.
        #[arg(value_name = "ID")]
        region: u32,
    },
    /// Let a region run in another process, or here again
    Move {
        /// Which.
        #[arg(value_name = "ID")]
        region: u32,
        /// The address of a process that joined, as `ecumene shards` shows it, or `here`.
        #[arg(value_name = "WHERE")]
        to: String,
    },
}

impl ShardsCommand {
    pub(super) fn request(&self) -> AdminRequest {
        match self.clone() {
            Self::Split { region } => AdminRequest::ShardSplit { region },
            Self::Merge { region } => AdminRequest::ShardMerge { region },
            Self::Move { region, to } => AdminRequest::ShardMove { region, to },
        }
    }
}

/// Returns an address as it was typed, if it names a host and a port.
pub(super) fn host_port(text: &str) -> Result<String, String> {
    let is_good = text.rsplit_once(':').is_some_and(|(host, port)| {
        let is_port = port.parse::<u16>().is_ok_and(|port| 0 < port);
        !host.is_empty() && host.len() <= HOST_BYTES_MAX && is_port
    });
    if is_good { Ok(text.to_owned()) } else { Err("give HOST:PORT".to_owned()) }
}

/// Bytes of a host's name: what the domain name system allows.
const HOST_BYTES_MAX: usize = 253;

#[cfg(test)]
mod tests {
    use super::super::tests::{refused, request};
    use super::*;

    #[test]
    fn lines_become_requests() {
        assert_eq!(request("ecumene shards"), AdminRequest::ShardList);
        assert_eq!(request("ecumene shards split 4"), AdminRequest::ShardSplit { region: 4 });
        assert_eq!(request("ecumene shards merge 9"), AdminRequest::ShardMerge { region: 9 });
        let moved = AdminRequest::ShardMove { region: 9, to: "here".into() };
        assert_eq!(request("ecumene shards move 9 here"), moved);
        for nowhere in ["play.example", ":4433", "play.example:0", "play.example:x"] {
            let why = refused(&format!("ecumene stop --redirect {nowhere}"));
            assert!(why.contains("give HOST:PORT"), "{why}");
        }
    }
}
