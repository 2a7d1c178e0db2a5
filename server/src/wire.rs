//! Explains a recorded session: what each frame and datagram says, field by field.
//!
//! [`Explainer`] takes records in order and returns a [`Line`] for each thing that was said. It
//! reads no file and writes none, and finds words for damaged bytes too.

mod show;

use std::collections::BTreeMap;

use protocol::capture::{Channel, Record};
use protocol::delta::FrameDecoder;
use protocol::frame::{self, Assembler};
use protocol::ids::{ContentHash, EntityId};
use protocol::input::{INPUT_KIND, InputDatagram};
use protocol::limits::MESSAGE_BYTES_MAX;
use protocol::message::server::Announce;
use protocol::message::{ClientMessage, ServerMessage};
use protocol::units::Tick;
use serde_json::{Value, json};

pub use show::Line;

/// One thing that was said, before it has its place and time.
struct Said {
    name: String,
    bytes: usize,
    fields: Value,
    problem: Option<String>,
}

/// One direction of the control stream.
#[derive(Default)]
struct Half {
    assembler: Assembler,
    is_broken: bool,
}

/// What is known of a session so far.
#[derive(Default)]
pub struct Explainer {
    client: Half,
    server: Half,
    /// Reads frames as the client did; nothing before the welcome.
    decoder: Option<FrameDecoder>,
    newest: Tick,
    bearers: BTreeMap<u16, EntityId>,
    shows_secrets: bool,
}

impl Explainer {
    /// Returns an explainer that names tokens, tickets and signatures by their length alone.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns an explainer that shows everything.
    #[must_use]
    pub fn with_secrets() -> Self {
        Self { shows_secrets: true, ..Self::default() }
    }

    /// Returns what was said by the end of `record`.
    pub fn explain(&mut self, record: &Record<'_>) -> Vec<Line> {
        let said = match record.channel {
            Channel::Control => self.control(record),
            Channel::Datagram => vec![self.datagram(record)],
            Channel::Ground => vec![ground(record.bytes)],
            Channel::Note => vec![self.note(record.bytes)],
        };
        let shows_secrets = self.shows_secrets;
        said.into_iter().map(|said| line(record, said, shows_secrets)).collect()
    }

    fn control(&mut self, record: &Record<'_>) -> Vec<Said> {
        let half = if record.from_client { &mut self.client } else { &mut self.server };
        if half.is_broken {
            let why = "follows what broke the stream";
            return vec![Said::unreadable("control bytes", record.bytes, why)];
        }
        half.assembler.extend(record.bytes);
        let (mut said, mut messages) = (Vec::new(), Vec::new());
        loop {
            match half.assembler.next(MESSAGE_BYTES_MAX) {
                Ok(None) => break,
                Ok(Some(frame)) if record.from_client => said.push(client_message(frame)),
                Ok(Some(frame)) => {
                    let (message, words) = server_message(frame);
                    messages.extend(message);
                    said.push(words);
                }
                Err(error) => {
                    half.is_broken = true;
                    said.push(Said::unreadable("control bytes", record.bytes, &error.to_string()));
                    break;
                }
            }
        }
        messages.iter().for_each(|message| self.learn(message));
        said
    }

    /// Learns what frames will refer to.
    fn learn(&mut self, message: &ServerMessage) {
        if let ServerMessage::Welcome(welcome) = message {
            self.decoder = Some(FrameDecoder::new(welcome.hz));
            self.newest = welcome.tick;
            self.bearers.clear();
        }
        if let ServerMessage::Announce(announce) = message {
            self.announce(announce);
        }
    }

    fn announce(&mut self, announce: &Announce) {
        let Some(decoder) = &mut self.decoder else { return };
        for &handle in &announce.vanish {
            decoder.forget(handle, announce.since);
            self.bearers.remove(&handle);
        }
        for appear in &announce.appear {
            if self.bearers.insert(appear.handle, appear.entity) != Some(appear.entity) {
                decoder.forget(appear.handle, announce.since);
            }
        }
    }

    fn datagram(&mut self, record: &Record<'_>) -> Said {
        if record.bytes.first() == Some(&INPUT_KIND) {
            self.input(record)
        } else {
            self.frame(record)
        }
    }

    fn input(&mut self, record: &Record<'_>) -> Said {
        match InputDatagram::decode(record.bytes) {
            Ok(read) => {
                if let Some(decoder) =
                    self.decoder.as_mut().filter(|_| read.head.has_lost_everything)
                {
                    decoder.reset();
                }
                Said::plain("input", record.bytes, show::input(&read))
            }
            Err(error) => Said::unreadable("input", record.bytes, &error.to_string()),
        }
    }

    fn frame(&mut self, record: &Record<'_>) -> Said {
        let Some(decoder) = &mut self.decoder else {
            return Said::unreadable("frame", record.bytes, "no welcome said how to read it");
        };
        match decoder.decode(record.bytes, self.newest) {
            Ok(None) => Said::plain("frame", record.bytes, json!({"stale": true})),
            Ok(Some(frame)) => {
                self.newest = self.newest.max(frame.tick);
                Said::plain("frame", record.bytes, show::frame(&frame, &self.bearers))
            }
            Err(error) => Said::unreadable("frame", record.bytes, &error.to_string()),
        }
    }

    /// A note ends a connection: what follows belongs to the next one.
    fn note(&mut self, bytes: &[u8]) -> Said {
        *self = Self { shows_secrets: self.shows_secrets, ..Self::default() };
        Said::plain("note", bytes, json!({"text": String::from_utf8_lossy(bytes)}))
    }
}

impl Said {
    fn plain(name: &str, bytes: &[u8], fields: Value) -> Self {
        Self { name: name.into(), bytes: bytes.len(), fields, problem: None }
    }

    fn unreadable(name: &str, bytes: &[u8], why: &str) -> Self {
        let fields = json!({"begins": show::hex(bytes.get(..32).unwrap_or(bytes))});
        Self { problem: Some(why.into()), ..Self::plain(name, bytes, fields) }
    }
}

fn client_message(frame: frame::Frame<'_>) -> Said {
    match ClientMessage::read(frame) {
        Ok(Some(message)) => {
            let (name, kind) = message.name();
            message_said(name, kind, frame.body, serde_json::to_value(&message))
        }
        Ok(None) => unknown(frame),
        Err(error) => Said::unreadable("message", frame.body, &error.to_string()),
    }
}

fn server_message(frame: frame::Frame<'_>) -> (Option<ServerMessage>, Said) {
    match ServerMessage::read(frame) {
        Ok(Some(message)) => {
            let (name, kind) = message.name();
            let said = message_said(name, kind, frame.body, serde_json::to_value(&message));
            (Some(message), said)
        }
        Ok(None) => (None, unknown(frame)),
        Err(error) => (None, Said::unreadable("message", frame.body, &error.to_string())),
    }
}

fn message_said(
    name: &str,
    kind: u16,
    body: &[u8],
    shown: Result<Value, serde_json::Error>,
) -> Said {
    let name = format!("{name} {kind:#06x}");
    match shown {
        // The fields alone: the name stands in front of them already.
        Ok(Value::Object(message)) => {
            Said::plain(&name, body, message.into_values().next().unwrap_or_default())
        }
        Ok(other) => Said::plain(&name, body, other),
        Err(error) => Said::unreadable(&name, body, &error.to_string()),
    }
}

fn unknown(frame: frame::Frame<'_>) -> Said {
    let fields = json!({"begins": show::hex(frame.body.get(..32).unwrap_or(frame.body))});
    let name = format!("unknown {:#06x}, skipped", frame.kind);
    Said::plain(&name, frame.body, fields)
}

fn ground(bytes: &[u8]) -> Said {
    let unreadable = |why: &str| Said::unreadable("chunk", bytes, why);
    let (head, taken) = match frame::split(bytes, MESSAGE_BYTES_MAX) {
        Ok(Some(split)) => split,
        Ok(None) => return unreadable("the stream ends within its head"),
        Err(error) => return unreadable(&error.to_string()),
    };
    let chunk = match ServerMessage::read(head) {
        Ok(Some(ServerMessage::Chunk(chunk))) => chunk,
        Ok(_) => return unreadable("another message in place of the head"),
        Err(error) => return unreadable(&error.to_string()),
    };
    let body = bytes.get(taken..).unwrap_or_default();
    let problem = if u32::try_from(body.len()) != Ok(chunk.length) {
        Some(format!("{} bytes follow, the head says {}", body.len(), chunk.length))
    } else if ContentHash::of(body) != chunk.hash {
        Some(format!("the hash is {}, the head says {}", ContentHash::of(body), chunk.hash))
    } else {
        None
    };
    let fields = json!({"id": chunk.id, "hash": chunk.hash, "length": chunk.length});
    Said { problem, ..Said::plain("chunk", bytes, fields) }
}

fn line(record: &Record<'_>, said: Said, shows_secrets: bool) -> Line {
    let mut fields = said.fields;
    show::tidy(&mut fields, shows_secrets);
    Line {
        at_us: record.at_us,
        from_client: record.from_client,
        channel: record.channel,
        name: said.name,
        bytes: said.bytes,
        fields,
        problem: said.problem,
    }
}

#[cfg(test)]
mod tests;
