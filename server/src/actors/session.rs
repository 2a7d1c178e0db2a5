//! Session actor: one connection's messages, judged by a [`Session`] and passed on.
//!
//! | in        | from              | effect                                          |
//! |-----------|-------------------|-------------------------------------------------|
//! | [`Said`]  | control stream    | judged; what comes of it goes to the gateway     |
//! | [`Broke`] | streams           | the stay ends                                   |
//! | [`Mute`]  | gateway           | no speech until then                            |
//!
//! | out         | to      | when the receiver is full                              |
//! |-------------|---------|--------------------------------------------------------|
//! | [`Reacted`] | gateway | waits there: each session's own mailbox bounds it      |
//! | [`Gone`]    | gateway | told again shortly: a stay must end                    |

use std::time::Duration;

use actix::prelude::*;
use protocol::close::CloseCode;
use protocol::message::ClientMessage;
use protocol::units::Tick;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::gateway::{Gone, Reacted};
use crate::io::clock;
use crate::session::{Reaction, Session};
use crate::shard::viewer::ClientKey;

/// Messages that may wait before the client is made to wait.
const MAILBOX: usize = 16;

/// How soon an ended stay is told again to a gateway that was full.
const RETELL: Duration = Duration::from_millis(50);

/// The client said something.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Said(pub ClientMessage);

/// The connection is over, or broke the protocol.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Broke {
    /// What happened, for logs.
    pub why: String,
    /// The code to close with, if the connection still stands.
    pub code: Option<CloseCode>,
}

/// No speech until a moment.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Mute {
    /// Unix time in milliseconds.
    pub until_ms: u64,
}

/// Judges one client's messages.
pub struct SessionActor {
    client: ClientKey,
    session: Session,
    gateway: (Recipient<Reacted>, Recipient<Gone>),
    /// The gateway's tick, for stamps.
    tick: Arc<AtomicU64>,
}

impl SessionActor {
    /// Returns the actor of a session.
    #[must_use]
    pub const fn new(
        client: ClientKey,
        session: Session,
        gateway: (Recipient<Reacted>, Recipient<Gone>),
        tick: Arc<AtomicU64>,
    ) -> Self {
        Self { client, session, gateway, tick }
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<Said> for SessionActor {
    type Result = ();

    fn handle(&mut self, Said(message): Said, _: &mut Self::Context) {
        let tick = Tick(self.tick.load(Ordering::Relaxed));
        for reaction in self.session.hear(message, clock::unix_ms(), tick) {
            self.pass_on(reaction);
        }
    }
}

impl Handler<Broke> for SessionActor {
    type Result = ();

    fn handle(&mut self, Broke { why, code }: Broke, ctx: &mut Self::Context) {
        self.end(why, code, ctx);
    }
}

impl Handler<Mute> for SessionActor {
    type Result = ();

    fn handle(&mut self, Mute { until_ms }: Mute, _: &mut Self::Context) {
        self.session.muted_until_ms = until_ms;
    }
}

impl SessionActor {
    #[expect(clippy::disallowed_methods, reason = "bounded by this actor's own mailbox")]
    fn pass_on(&self, reaction: Reaction) {
        // What a client said must lead to something. This adds no more to the gateway's mailbox
        // than this actor's own small one lets in.
        self.gateway.0.do_send(Reacted { client: self.client, reaction });
    }

    fn end(&self, why: String, code: Option<CloseCode>, ctx: &mut Context<Self>) {
        let gone = Gone { client: self.client, why: why.clone(), code };
        if self.gateway.1.try_send(gone).is_ok() {
            ctx.stop();
        } else {
            ctx.run_later(RETELL, move |actor, ctx| actor.end(why, code, ctx));
        }
    }
}
