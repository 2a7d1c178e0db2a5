//! How what was said is shown: a line for people, an object for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use protocol::capture::Channel;
use protocol::delta::Frame;
use protocol::ids::EntityId;
use protocol::input::{Input, InputDatagram};
use protocol::state::EntityState;
use protocol::units::Position;
use serde_json::{Value, json};

/// Fields that let whoever reads them act for somebody else.
const SECRETS: [&str; 4] = ["token", "resume", "ticket", "signature"];

/// Numbers in a row from which on bytes are shown as digits.
const BYTES_MIN: usize = 16;

/// One thing that was said.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Microseconds since the recording began.
    pub at_us: u64,
    /// Whether the client said it.
    pub from_client: bool,
    /// On which way.
    pub channel: Channel,
    /// What it is.
    pub name: String,
    /// Its length without a frame's head.
    pub bytes: usize,
    /// What it says.
    pub fields: Value,
    /// What is wrong with it.
    pub problem: Option<String>,
}

impl Line {
    /// Returns the line for people.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { at_us, name, bytes, .. } = self;
        let (seconds, micros) = (at_us / 1_000_000, at_us % 1_000_000);
        let arrow = if self.from_client { "->" } else { "<-" };
        let mut text = format!("{seconds:>4}.{micros:06} {arrow} {name}, {bytes} B");
        if let Some(problem) = &self.problem {
            text += " UNREADABLE: ";
            text += problem;
        }
        text.push(' ');
        brief(&self.fields, &mut text);
        text
    }

    /// Returns the object for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "at_us": self.at_us,
            "from": if self.from_client { "client" } else { "server" },
            "channel": channel_name(self.channel),
            "name": self.name,
            "bytes": self.bytes,
            "fields": self.fields,
            "problem": self.problem,
        })
    }
}

const fn channel_name(channel: Channel) -> &'static str {
    match channel {
        Channel::Control => "control",
        Channel::Datagram => "datagram",
        Channel::Ground => "ground",
        Channel::Note => "note",
    }
}

/// Returns the fields of an input datagram.
pub fn input(read: &InputDatagram) -> Value {
    let inputs: Vec<Value> = read.inputs().iter().map(one_input).collect();
    let head = &read.head;
    json!({
        "newest": head.newest,
        "inputs": inputs,
        "acks": head.acks.map(|acks| json!({
            "newest": acks.newest,
            "before": format!("{:032b}", acks.before),
        })),
        "announcements": head.announcements,
        "buffer_ticks": head.buffer_ticks,
        "lost": read.lost(),
        "lost_everything": head.has_lost_everything,
    })
}

fn one_input(&Input { forward, right, yaw, buttons }: &Input) -> Value {
    json!({"forward": forward, "right": right, "yaw": yaw, "buttons": buttons})
}

/// Returns the fields of a frame, with the entities that handles stand for.
pub fn frame(frame: &Frame<'_>, bearers: &BTreeMap<u16, EntityId>) -> Value {
    let states: Vec<Value> =
        frame.states.iter().map(|(handle, state)| one_state(*handle, state, bearers)).collect();
    let own = frame.own.map(|own| {
        let Position { x, y, z } = own.origin();
        json!({
            "cm": [x, y, z], "at": own.at, "velocity": own.velocity, "mode": own.mode,
            "cooldown": own.cooldown,
        })
    });
    json!({
        "tick": frame.tick,
        "acked_input": frame.acked_input,
        "dilated": frame.is_dilated,
        "own": own,
        "states": states,
        "missing": frame.missing,
    })
}

fn one_state(handle: u16, state: &EntityState, bearers: &BTreeMap<u16, EntityId>) -> Value {
    let EntityState { position: Position { x, y, z }, velocity, yaw, animation, flags } = *state;
    json!({
        "handle": handle,
        "entity": bearers.get(&handle).map(ToString::to_string),
        "cm": [x, y, z],
        "velocity": velocity,
        "yaw": yaw,
        "animation": animation,
        "flags": flags,
    })
}

/// Returns bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Shows long lists of bytes as digits, and secrets by their length unless they are wanted.
pub fn tidy(value: &mut Value, shows_secrets: bool) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                let is_secret = SECRETS.contains(&name.as_str()) && !shows_secrets;
                match field.as_array() {
                    Some(bytes) if is_secret => {
                        *field = Value::String(format!("{} bytes, not shown", bytes.len()));
                    }
                    Some(_) | None => tidy(field, shows_secrets),
                }
            }
        }
        Value::Array(items) => match bytes_of(items) {
            Some(bytes) if BYTES_MIN <= bytes.len() => *value = Value::String(hex(&bytes)),
            Some(_) | None => items.iter_mut().for_each(|item| tidy(item, shows_secrets)),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn bytes_of(items: &[Value]) -> Option<Vec<u8>> {
    items.iter().map(|item| u8::try_from(item.as_u64()?).ok()).collect()
}

/// Appends a value without the quotes around names that only programs need.
fn brief(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => {
            text.push('{');
            for (index, (name, field)) in fields.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { ", " });
                text.push_str(name);
                text.push_str(": ");
                brief(field, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { ", " });
                brief(item, text);
            }
            text.push(']');
        }
        Value::Null => text.push('-'),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            write!(text, "{value}").unwrap_or_default();
        }
    }
}
