//! Carries log lines to the page, and leaves out whatever might be about a person.
//!
//! Only our own crates are carried, because only their messages are known to be fixed texts, and
//! only fields on a list of harmless names keep their value.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::io::clock::unix_ms;
use crate::status::log::{Level, LogTail};

/// Crates whose messages are ours.
const OURS: [&str; 9] =
    ["ecumene", "server", "protocol", "worldgen", "npc", "persona", "avatar", "audit", "tests"];

/// Fields whose values say nothing about a person: counts, codes, reasons, and ids of processes.
const SHOWN: [&str; 38] = [
    "address_kind",
    "bytes",
    "capacity",
    "chunks",
    "clients",
    "code",
    "count",
    "durable",
    "entities",
    "entity",
    "epoch",
    "error",
    "from",
    "ghosts",
    "hz",
    "kind",
    "limit",
    "listen",
    "micros",
    "millis",
    "ms",
    "number",
    "pace",
    "pending",
    "place",
    "reason",
    "region",
    "seconds",
    "seed",
    "session",
    "shard",
    "shards",
    "skipped",
    "tick",
    "to",
    "version",
    "why",
    "world",
];

/// Characters of fields gathered for one span or event: more does not fit the line anyway.
const FIELDS_CHARS_MAX: usize = 200;

/// Returns the layer that fills `tail` with INFO and above.
pub fn layer<S>(tail: Arc<LogTail>) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    Carrier { tail }.with_filter(LevelFilter::INFO)
}

struct Carrier {
    tail: Arc<LogTail>,
}

/// What a span's fields say, kept with the span.
struct Said(String);

impl<S> Layer<S> for Carrier
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut words = Words::default();
        attributes.record(&mut words);
        span.extensions_mut().insert(Said(words.fields));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut words = Words::default();
        values.record(&mut words);
        if let Some(Said(fields)) = span.extensions_mut().get_mut()
            && fields.len() + words.fields.len() <= FIELDS_CHARS_MAX
        {
            fields.push_str(&words.fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let target = metadata.target();
        let krate = target.split("::").next().unwrap_or(target);
        if !OURS.contains(&krate) {
            return;
        }
        let mut words = Words::default();
        event.record(&mut words);
        let mut text = words.message;
        text.push_str(&words.fields);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(Said(fields)) = span.extensions().get() {
                text.push_str(fields);
            }
        }
        self.tail.push(unix_ms(), level(*metadata.level()), target, text);
    }
}

fn level(level: tracing::Level) -> Level {
    match level {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::TRACE => Level::Trace,
    }
}

/// The message and the fields of one span or event, as text.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Words {
    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if field.name() == "message" {
            append(&mut self.message, value);
            return;
        }
        append(&mut self.fields, format_args!(" {}=", field.name()));
        if SHOWN.contains(&field.name()) {
            append(&mut self.fields, value);
        } else {
            self.fields.push('…');
        }
    }
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }
}

/// Appends `value` with its control characters as spaces, stopping at [`FIELDS_CHARS_MAX`].
fn append(text: &mut String, value: fmt::Arguments<'_>) {
    /// A writer that runs full, so that a huge value is never written out.
    struct Bounded<'a>(&'a mut String);

    impl fmt::Write for Bounded<'_> {
        fn write_str(&mut self, piece: &str) -> fmt::Result {
            for char in piece.chars() {
                if FIELDS_CHARS_MAX <= self.0.len() {
                    return Err(fmt::Error);
                }
                self.0.push(if char.is_control() { ' ' } else { char });
            }
            Ok(())
        }
    }

    if Bounded(text).write_fmt(value).is_err() {
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use tracing::{info, info_span, warn};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// What the page shows of what `act` logs.
    fn shown(act: impl FnOnce()) -> Vec<String> {
        let tail = Arc::<LogTail>::default();
        let subscriber = tracing_subscriber::registry().with(layer(Arc::clone(&tail)));
        tracing::subscriber::with_default(subscriber, act);
        tail.since(0).iter().map(|line| format!("{:?} {}", line.level, line.text)).collect()
    }

    #[test]
    fn a_line_carries_its_fields_and_those_of_its_spans() {
        let lines = shown(|| {
            let _tick = info_span!("tick", shard = "r-1", tick = 40).entered();
            let session = info_span!("session", session = tracing::field::Empty);
            session.record("session", "s-2");
            let _session = session.entered();
            warn!(code = 9, "refused");
        });
        assert_eq!(lines, ["Warn refused code=9 session=s-2 shard=r-1 tick=40"]);
    }

    #[test]
    fn what_may_be_personal_loses_its_value() {
        let lines = shown(|| {
            let (name, token) = ("Smith", "En0KEwo");
            info!(name, %token, chat = "hello", peer = "192.0.2.7:9", count = 3, "came in");
        });
        assert_eq!(lines, ["Info came in name=… token=… chat=… peer=… count=3"]);
    }

    #[test]
    fn other_crates_and_debugging_stay_out() {
        let lines = shown(|| {
            info!(target: "quinn::endpoint", "connected to 192.0.2.7");
            tracing::debug!("a decision");
            info!(target: "server::host", "up");
        });
        assert_eq!(lines, ["Info up"]);
    }

    #[test]
    fn a_huge_value_neither_swells_nor_breaks_the_line() {
        let lines = shown(|| warn!(reason = %"a\nb".repeat(100_000), "odd"));
        assert!(lines[0].len() < 220 && !lines[0].contains('\n'), "{}", lines[0].len());
        assert!(lines[0].starts_with("Warn odd reason=a ba b"));
    }
}
