//! What is printed once a server has started: where it is, who it is, and what to type next.

use core::net::SocketAddr;
use std::time::Duration;

use crate::config::{Config, Reach};
use crate::identity::PublicKey;
use crate::io::record::RecordTo;

/// What an operator is told.
#[derive(Clone, Copy, Debug)]
pub struct Banner<'a> {
    /// The settings in force.
    pub config: &'a Config,
    /// The world's name.
    pub world: &'a str,
    /// The world's folder.
    pub data: &'a str,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where the page is.
    pub http: SocketAddr,
    /// The key that clients pin.
    pub key: PublicKey,
    /// The first start's token.
    pub first_token: Option<&'a str>,
    /// What is recorded.
    pub record: Option<&'a RecordTo>,
    /// How long the start took.
    pub took: Duration,
}

impl Banner<'_> {
    /// Returns the text, without colour.
    #[must_use]
    pub fn text(&self) -> String {
        let Banner { config, world, data, listen, http, key, first_token, record, took } = self;
        let mut text = format!(
            "\n  {} serves the world `{world}` (ready in {:.1} s)\n\n  \
             connect   {listen}\n  \
             identity  {key}\n  \
             page      http://{http}/\n  \
             folder    {data}\n  \
             enter     {}\n",
            config.server.name,
            took.as_secs_f64(),
            who_may_enter(config),
        );
        if let Some(RecordTo { path, bytes_max }) = record {
            text += &format!(
                "  records   {}, at most {} MiB\n\n  \
                 Everything that anybody does or says is in the recording, under no key, and no\n  \
                 erasure reaches it. Tell people, and remove it when you are done with it.\n",
                path.display(),
                bytes_max >> 20,
            );
        }
        if let Some(token) = first_token {
            text += &format!(
                "\n  Admin token, good for 30 days. It is shown this once and kept nowhere:\n\n  {token}\n"
            );
        }
        text += "\n  In another terminal:\n    \
                 ecumene top                        watch the world\n    \
                 ecumene token mint --role member   let somebody in\n    \
                 ecumene stop --in 1m               stop, and tell everybody in time\n";
        if listen.ip().is_loopback() {
            text += "\n  Only this machine can connect. To open the world:\n    \
                     ecumene serve --listen 0.0.0.0:4433\n";
        }
        text.push('\n');
        text
    }
}

fn who_may_enter(config: &Config) -> String {
    let reach = |reach| match reach {
        Reach::Loopback => "from this machine",
        Reach::Anyone => "from everywhere",
        Reach::Nobody => "not at all",
    };
    let admission = &config.admission;
    format!(
        "with a token from everywhere; new keys {}; guests {}",
        reach(admission.newcomers),
        reach(admission.guests),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    #[test]
    fn the_banner_says_where_who_and_what_next_in_aligned_lines() {
        let config = Settings::defaults().config;
        let banner = Banner {
            config: &config,
            world: "home",
            data: "/srv/ecumene/home",
            listen: config.server.listen,
            http: config.server.http,
            key: PublicKey([0xAB; 32]),
            first_token: Some("TOKEN"),
            record: None,
            took: Duration::from_millis(250),
        };
        let text = banner.text();
        for line in [
            "  Ecumene serves the world `home` (ready in 0.2 s)",
            "  connect   127.0.0.1:4433",
            "  page      http://127.0.0.1:8433/",
            "  TOKEN",
            "    ecumene top                        watch the world",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nis missing in\n{text}");
        }
        assert!(!text.contains('\u{1B}'));
        let later = Banner { first_token: None, ..banner };
        assert!(!later.text().contains("Admin token"));
        assert!(!later.text().contains("recording"));
        let to = RecordTo { path: "/tmp/steps".into(), bytes_max: 5 << 20 };
        let text = Banner { record: Some(&to), ..banner }.text();
        assert!(text.contains("\n  records   /tmp/steps, at most 5 MiB\n"), "{text}");
        assert!(text.contains("Everything that anybody does or says"), "{text}");
    }
}
