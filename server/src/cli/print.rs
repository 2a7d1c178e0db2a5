//! What operators read: answers as aligned lines, without colour.

use super::span::Span;
use crate::admin::{AdminReply, Player, SharedAsset};
use crate::admission::access::TokenRecord;
use crate::admission::bans::Ban;
use crate::audit::AuditEntry;
use crate::io::admin::top;
use crate::status::ShardStatus;
use crate::token::Purpose;
use crate::world::Manifest;

/// Returns `reply` as text for a terminal; `now_s` is Unix time in seconds.
#[must_use]
pub fn reply(reply: &AdminReply, now_s: u64) -> String {
    match reply {
        AdminReply::Done(text) | AdminReply::Failed(text) => format!("{text}\n"),
        AdminReply::Status(status) => top::lines(status).join("\n") + "\n",
        AdminReply::Players(players) => list_players(players),
        AdminReply::Bans(bans) => list_bans(bans, now_s),
        AdminReply::Tokens(tokens) => list_tokens(tokens, now_s),
        AdminReply::Minted { token, record } => format!(
            "{token}\n\n{} for {}, good for {}. It is shown this once; hand it on safely.\n\
             Take it back with: ecumene token revoke {}\n",
            record.id,
            match record.purpose {
                Purpose::People => format!("a {}", record.role),
                Purpose::Shards => "processes that run shards".to_owned(),
            },
            Span(record.expires_s.saturating_sub(record.minted_s)),
            record.id,
        ),
        AdminReply::Shards(shards) => list_shards(shards),
        AdminReply::Audit(entries) => list_audit(entries, now_s),
        AdminReply::Assets { assets, of } => list_assets(assets, *of, now_s),
        AdminReply::Reloaded { applied, restart } => reloaded(applied, restart),
        AdminReply::Verified { records, problems } => verified(*records, problems),
    }
}

/// Returns the worlds as a table.
#[must_use]
pub fn worlds(worlds: &[Manifest], now_s: u64) -> String {
    if worlds.is_empty() {
        return "no world yet; make one with: ecumene world new home\n".to_owned();
    }
    let row = |world: &Manifest| {
        let age = Span(now_s.saturating_sub(world.made_s));
        [
            world.name.clone(),
            world.id.to_string(),
            world.seed.to_string(),
            world.terrain.clone(),
            format!("{age} ago"),
        ]
    };
    table(["WORLD", "ID", "SEED", "GROUND", "MADE"], worlds.iter().map(row))
}

fn list_players(players: &[Player]) -> String {
    if players.is_empty() {
        return "nobody is in\n".to_owned();
    }
    let row = |player: &Player| {
        let [x_m, z_m] = player.at_m;
        let muted = if player.is_muted { " (muted)" } else { "" };
        [
            format!("{}{muted}", player.name),
            player.person.to_string(),
            player.role.to_string(),
            format!("{x_m} {z_m}"),
            format!("{} ms", player.ping_ms),
            Span(player.for_s).to_string(),
        ]
    };
    table(["NAME", "ID", "ROLE", "AT", "PING", "FOR"], players.iter().map(row))
}

fn list_bans(bans: &[Ban], now_s: u64) -> String {
    if bans.is_empty() {
        return "nobody is banned\n".to_owned();
    }
    let row = |ban: &Ban| {
        let left = ban.until_s.map(|until_s| Span(until_s.saturating_sub(now_s)).to_string());
        [ban.who.to_string(), left.unwrap_or_else(|| "until lifted".to_owned()), ban.why.clone()]
    };
    table(["WHO", "FOR", "WHY"], bans.iter().map(row))
}

fn list_tokens(tokens: &[TokenRecord], now_s: u64) -> String {
    if tokens.is_empty() {
        return "no token was minted; make one with: ecumene token mint\n".to_owned();
    }
    let row = |token: &TokenRecord| {
        let state = if token.revoked_s.is_some() {
            "revoked".to_owned()
        } else if token.expires_s <= now_s {
            "expired".to_owned()
        } else {
            format!("good for {}", Span(token.expires_s - now_s))
        };
        let person = token.person.map_or_else(|| "anybody".to_owned(), |person| person.to_string());
        let role = match token.purpose {
            Purpose::People => token.role.to_string(),
            Purpose::Shards => "shards".to_owned(),
        };
        [token.id.to_string(), role, person, state, token.note.clone()]
    };
    table(["ID", "ROLE", "FOR", "STATE", "NOTE"], tokens.iter().map(row))
}

fn list_assets(assets: &[SharedAsset], of: usize, now_s: u64) -> String {
    if of == 0 {
        return "nobody shares anything\n".to_owned();
    }
    let row = |asset: &SharedAsset| {
        let left = Span(asset.until_s.saturating_sub(now_s));
        [
            asset.hash.clone(),
            asset.owner.to_string(),
            asset.audience.clone(),
            asset.length.to_string(),
            asset.media.clone(),
            left.to_string(),
            asset.name.clone(),
        ]
    };
    let head = ["HASH", "OWNER", "FOR", "BYTES", "TYPE", "LEFT", "NAME"];
    let mut text = table(head, assets.iter().map(row));
    let shown = assets.len();
    if shown < of {
        text += &format!("{shown} of {of}; --last N shows more, --owner ID one person's alone\n");
    }
    text
}

fn list_shards(shards: &[ShardStatus]) -> String {
    let row = |shard: &ShardStatus| {
        [
            shard.id.clone(),
            shard.region.clone(),
            shard.entities.to_string(),
            shard.clients.to_string(),
            format!("{:.2} ms", shard.step_ms),
            shard.place.clone(),
        ]
    };
    table(["SHARD", "REGION", "ENTITIES", "CLIENTS", "STEP", "WHERE"], shards.iter().map(row))
}

fn list_audit(entries: &[AuditEntry], now_s: u64) -> String {
    if entries.is_empty() {
        return "operators did nothing yet\n".to_owned();
    }
    let row = |entry: &AuditEntry| {
        let age = Span(now_s.saturating_sub(entry.at_ms / 1_000));
        [
            entry.number.to_string(),
            format!("{age} ago"),
            entry.who.clone(),
            entry.what.clone(),
            entry.outcome.clone(),
        ]
    };
    table(["NO", "WHEN", "WHO", "WHAT", "OUTCOME"], entries.iter().map(row))
}

/// Returns entries of the audit as JSON, one object a line.
///
/// # Errors
/// Never for what is an entry.
pub fn audit_json(entries: &[AuditEntry]) -> Result<String, serde_json::Error> {
    let lines: Result<Vec<String>, _> = entries.iter().map(serde_json::to_string).collect();
    Ok(lines?.into_iter().map(|line| line + "\n").collect())
}

fn reloaded(applied: &[String], restart: &[String]) -> String {
    let mut text = String::new();
    if applied.is_empty() && restart.is_empty() {
        return "nothing changed\n".to_owned();
    }
    if !applied.is_empty() {
        text += &format!("in force now: {}\n", applied.join(", "));
    }
    if !restart.is_empty() {
        text += &format!("in force after a restart: {}\n", restart.join(", "));
    }
    text
}

fn verified(records: u64, problems: &[String]) -> String {
    if problems.is_empty() {
        return format!("{records} records read, all sound\n");
    }
    let lines = problems.join("\n");
    format!("{records} records read, with problems:\n{lines}\n")
}

/// Returns rows under a head, each column as wide as its widest cell.
fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows);
    let mut widths = [0; N];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<_> =
            line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Role;
    use crate::token::TokenId;

    fn token(id: u64, expires_s: u64, revoked_s: Option<u64>) -> TokenRecord {
        TokenRecord {
            purpose: Purpose::People,
            id: TokenId(id),
            role: Role::Member,
            person: None,
            minted_s: 0,
            expires_s,
            note: "for Ada".to_owned(),
            revoked_s,
        }
    }

    #[test]
    fn tokens_are_listed_with_their_state() {
        let tokens = vec![token(1, 3_700, None), token(2, 50, None), token(3, 999, Some(9))];
        assert_eq!(
            reply(&AdminReply::Tokens(tokens), 100),
            "ID                  ROLE    FOR      STATE        NOTE\n\
             t-0000000000000001  member  anybody  good for 1h  for Ada\n\
             t-0000000000000002  member  anybody  expired      for Ada\n\
             t-0000000000000003  member  anybody  revoked      for Ada\n",
        );
    }

    #[test]
    fn the_audit_is_a_table_or_lines_of_json() {
        let entry = AuditEntry {
            number: 3,
            at_ms: 40_000,
            who: "uid 1000".into(),
            what: "player kick p-1f".into(),
            outcome: "done".into(),
        };
        assert_eq!(
            reply(&AdminReply::Audit(vec![entry.clone()]), 100),
            "NO  WHEN    WHO       WHAT              OUTCOME\n\
             3   1m ago  uid 1000  player kick p-1f  done\n",
        );
        let line = r#"{"number":3,"at_ms":40000,"who":"uid 1000","what":"player kick p-1f","outcome":"done"}"#;
        assert_eq!(audit_json(&[entry]).unwrap(), format!("{line}\n"));
        assert_eq!(reply(&AdminReply::Audit(Vec::new()), 0), "operators did nothing yet\n");
    }

    #[test]
    fn what_people_share_is_a_table() {
        let asset = SharedAsset {
            hash: "ab".repeat(32),
            owner: protocol::ids::PersonId(0x1F),
            length: 40_000,
            media: "image/png".to_owned(),
            name: "hat.png".to_owned(),
            audience: "everyone".to_owned(),
            until_s: 4_600,
        };
        let text = reply(&AdminReply::Assets { assets: vec![asset], of: 2 }, 1_000);
        assert!(text.ends_with("\n1 of 2; --last N shows more, --owner ID one person's alone\n"));
        let row = text.lines().nth(1).unwrap();
        assert!(row.starts_with(&"ab".repeat(32)), "{text}");
        assert!(row.contains("  p-1f   everyone  40000  image/png  1h    hat.png"), "{text}");
    }

    #[test]
    fn empty_lists_say_so() {
        assert_eq!(reply(&AdminReply::Bans(Vec::new()), 0), "nobody is banned\n");
        assert_eq!(reply(&AdminReply::Players(Vec::new()), 0), "nobody is in\n");
        let none = AdminReply::Assets { assets: Vec::new(), of: 0 };
        assert_eq!(reply(&none, 0), "nobody shares anything\n");
        let nothing = AdminReply::Reloaded { applied: Vec::new(), restart: Vec::new() };
        assert_eq!(reply(&nothing, 0), "nothing changed\n");
    }
}
