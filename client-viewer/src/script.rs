//! The script language: one command a line, for scripts and for standard input alike.
//!
//! Owns what a line means; it is never asked to carry one out ([`crate::actor`] does) and knows
//! neither the kinds of things nor who is in the world: names stay words until then.

mod parse;

pub use parse::{BadLine, parse, parse_line};

use protocol::ids::ContentHash;
use protocol::units::Yaw;

/// Bytes of one script: thousands of lines, read into memory at once.
pub const SCRIPT_BYTES_MAX: usize = 256 * 1024;

/// Characters of one line: the longest utterance with its command.
pub const LINE_CHARS_MAX: usize = 1_024;

/// The longest time a line may name: an hour.
pub const SECONDS_MAX: u32 = 3_600;

/// The longest lending a line may ask for, in seconds: a season. Whoever wants more lends again.
pub const LEND_S_MAX: u64 = 90 * 86_400;

/// How long `expect` waits unless the line says `within`.
pub const EXPECT_MS_DEFAULT: u32 = 5_000;

/// Every command with its form and what it does, in the order `help` shows them.
pub const COMMANDS: &[(&str, &str, &str)] = &[
    ("walk", "walk to X Z | walk DIRECTION 10m", "walks to a point in metres, or some way"),
    ("run", "run to X Z | run DIRECTION 10m", "the same, faster"),
    ("follow", "follow NAME [for 10s]", "stays close to somebody"),
    ("face", "face DIRECTION | face NAME", "turns"),
    ("jump", "jump", "jumps once"),
    ("stop", "stop", "stands still"),
    ("wait", "wait 2s", "lets time pass"),
    ("say", "say \"TEXT\"", "speaks to everyone in earshot"),
    ("whisper", "whisper \"TEXT\"", "speaks to those close by"),
    ("tell", "tell NAME \"TEXT\"", "speaks to one person, anywhere"),
    ("channel", "channel NAME \"TEXT\"", "speaks on a channel, joining it first"),
    ("take", "take [N] THING", "picks up the nearest of a kind"),
    ("drop", "drop [N] THING", "puts down what one holds"),
    ("give", "give NAME [N] THING", "hands something over"),
    ("use", "use THING", "uses the nearest of a kind"),
    ("open", "open THING", "opens or closes the nearest of a kind"),
    ("gather", "gather THING", "gathers from the nearest of a kind"),
    ("make", "make THING", "makes something from what one holds"),
    ("build", "build THING", "builds something where one stands"),
    ("read", "read THING", "reads the nearest of a kind"),
    ("greet", "greet NAME", "greets somebody"),
    ("emote", "emote GESTURE", "shows a gesture such as wave"),
    ("offer", "offer NAME N THING for N THING", "offers an exchange"),
    ("accept", "accept [NAME]", "accepts the newest offer, or the newest of somebody"),
    ("decline", "decline [NAME]", "takes back or turns down an offer"),
    ("lend", "lend to NAME-OR-ID for 10m", "lets somebody drive one's avatar for a time"),
    ("recall", "recall NAME-OR-ID", "ends what was lent to somebody"),
    ("lendings", "lendings", "asks to whom one's avatar is lent"),
    (
        "share",
        "share FILE with everyone|me|NAME .. [for 60s]",
        "shares a file; names are of people in view",
    ),
    ("fetch", "fetch HASH to FILE", "fetches what somebody shares"),
    ("unshare", "unshare HASH", "takes back what one shares"),
    ("expect", "expect WHAT [within 5s]", "fails the script unless WHAT comes true"),
    ("look", "look", "writes who and what is in view"),
    ("leave", "leave", "leaves the world and ends the script"),
];

/// What `expect` can wait for, with its form.
pub const EXPECTATIONS: &[(&str, &str)] = &[
    ("heard", "expect heard \"TEXT\" [from NAME]"),
    ("holding", "expect holding [N] THING"),
    ("done", "expect done"),
    ("refused", "expect refused"),
    ("sees", "expect sees NAME-OR-THING"),
    ("near", "expect near X Z 2m | expect near NAME 2m"),
    ("offer", "expect offer [from NAME]"),
    ("event", "expect event VERB [by NAME]"),
];

/// One line of a script.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Its number, from 1.
    pub number: usize,
    /// What it says.
    pub command: Command,
}

/// What one line asks for. Distances are centimetres, times milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Goes somewhere.
    Go {
        /// Where to.
        to: Destination,
        /// Running instead of walking.
        run: bool,
    },
    /// Stays close to somebody.
    Follow {
        /// Whom.
        name: String,
        /// For how long, until they are reached if nothing.
        for_ms: Option<u32>,
    },
    /// Turns.
    Face(Facing),
    /// Jumps once.
    Jump,
    /// Stands still.
    Stop,
    /// Lets time pass.
    Wait {
        /// How much.
        ms: u32,
    },
    /// Speaks.
    Speak {
        /// To whom.
        to: Listener,
        /// What.
        text: String,
    },
    /// Does something to the nearest of a kind, or with what one holds.
    Act {
        /// The verb.
        verb: Verb,
        /// The kind of thing.
        thing: String,
        /// How many.
        count: u32,
    },
    /// Hands something over.
    Give {
        /// To whom.
        name: String,
        /// The kind of thing.
        thing: String,
        /// How many.
        count: u32,
    },
    /// Greets somebody.
    Greet {
        /// Whom.
        name: String,
    },
    /// Shows a gesture.
    Emote {
        /// Which.
        gesture: String,
    },
    /// Offers an exchange.
    Offer {
        /// To whom.
        name: String,
        /// What one gives, how many of which kind.
        give: (u32, String),
        /// What one wants.
        want: (u32, String),
    },
    /// Accepts an offer.
    Accept {
        /// Whose, the newest if nothing.
        name: Option<String>,
    },
    /// Withdraws or turns down an offer.
    Decline {
        /// Whose, the newest if nothing.
        name: Option<String>,
    },
    /// Lets somebody drive one's avatar.
    Lend {
        /// Whom: a name, or a person's id.
        to: String,
        /// For how many seconds.
        for_s: u64,
    },
    /// Ends what was lent to somebody.
    Recall {
        /// From whom: a name, or a person's id.
        from: String,
    },
    /// Asks to whom one's avatar is lent.
    Lendings,
    /// Shares a file.
    Share {
        /// Its path.
        file: String,
        /// Who may fetch it.
        with: Readers,
        /// For how long, as long as the server keeps anything if nothing.
        for_ms: Option<u32>,
    },
    /// Fetches what somebody shares.
    Fetch {
        /// Its hash.
        hash: ContentHash,
        /// Where it goes.
        file: String,
    },
    /// Takes back what one shares.
    Unshare {
        /// Its hash.
        hash: ContentHash,
    },
    /// Fails the script unless something comes true.
    Expect {
        /// What.
        what: Expectation,
        /// By when.
        within_ms: u32,
    },
    /// Writes who and what is in view.
    Look,
    /// Leaves the world.
    Leave,
}

/// Where a walk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A point of the ground.
    Point {
        /// East, in centimetres.
        x: i32,
        /// South, in centimetres.
        z: i32,
    },
    /// Some way from where one stands.
    Way {
        /// Which way.
        heading: Yaw,
        /// How far.
        cm: i32,
    },
}

/// Where a turn ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Facing {
    /// A heading.
    Heading(Yaw),
    /// Somebody.
    Name(String),
}

/// Who shall hear something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Everyone within earshot.
    Nearby,
    /// Those close by.
    Whisper,
    /// One person.
    Name(String),
    /// A channel.
    Channel(String),
}

/// Who may fetch what is shared, besides oneself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Everyone in the world.
    Everyone,
    /// Nobody else.
    Me,
    /// These people, by name or by id.
    Names(Vec<String>),
}

/// Verbs that take a kind of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Picks up.
    Take,
    /// Puts down.
    Drop,
    /// Uses.
    Use,
    /// Opens or closes.
    Open,
    /// Gathers from.
    Gather,
    /// Makes.
    Make,
    /// Builds.
    Build,
    /// Reads.
    Read,
}

/// What a script can wait for.
#[derive(Clone, Debug, PartialEq)]
pub enum Expectation {
    /// Somebody said words that contain a text, in any case of letters.
    Heard {
        /// The text.
        text: String,
        /// Who must have said it.
        from: Option<String>,
    },
    /// One holds at least so many of a kind.
    Holding {
        /// The kind.
        thing: String,
        /// How many.
        count: u32,
    },
    /// The last request was carried out.
    Done,
    /// The last request was refused.
    Refused,
    /// Somebody or something of that name is in view.
    Sees {
        /// The name.
        name: String,
    },
    /// One stands close to a point.
    NearPoint {
        /// East, in centimetres.
        x: i32,
        /// South, in centimetres.
        z: i32,
        /// How close.
        cm: u32,
    },
    /// One stands close to somebody.
    NearName {
        /// Whom.
        name: String,
        /// How close.
        cm: u32,
    },
    /// An offer is on the table.
    Offer {
        /// Who must have made it.
        from: Option<String>,
    },
    /// Something happened.
    Event {
        /// The verb.
        verb: String,
        /// Who must have done it.
        by: Option<String>,
    },
}

#[cfg(test)]
mod tests;
