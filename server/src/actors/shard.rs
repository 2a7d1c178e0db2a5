//! Shard actor: owns one [`Shard`] and steps it when it is told to.
//!
//! It runs in the server, told by the gateway, or in a process of its own, told over a link: it
//! does not know which.
//!
//! | in       | from    | effect                                         |
//! |----------|---------|------------------------------------------------|
//! | [`Step`] | gateway | one step; answered by [`Stepped`]              |
//! | [`Pack`] | gateway | packs the shard up and ends; [`PackedUp`]      |
//!
//! | out          | to      | when the receiver is full                   |
//! |--------------|---------|---------------------------------------------|
//! | [`Stepped`]  | gateway | waits there: one per shard and tick         |
//! | [`PackedUp`] | gateway | waits there: one per shard and move         |

use std::time::Duration;

use actix::prelude::*;
use protocol::units::Tick;
use tracing::trace_span;

use crate::hosting::Place;
use crate::io::clock;
use crate::region::RegionIndex;
use crate::shard::Shard;
use crate::shard::batch::{StepInput, StepOutput};
use crate::shard::pack::Packed;

/// Messages that may wait: a step, some that were missed on the way, and being packed.
const MAILBOX: usize = 16;

/// Step to a tick.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Step {
    /// What goes in.
    pub input: StepInput,
    /// Buffers to write to, used before.
    pub output: StepOutput,
}

/// Pack up, to go on elsewhere.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Pack;

/// A step was made.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Stepped {
    /// Whose shard.
    pub region: RegionIndex,
    /// Where it runs.
    pub place: Place,
    /// The tick it is at.
    pub tick: Tick,
    /// What came of it.
    pub output: StepOutput,
    /// How long it took.
    pub took: Duration,
}

/// A shard is packed up.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct PackedUp {
    /// Where it ran.
    pub place: Place,
    /// The shard.
    pub shard: Box<Packed>,
}

/// Who steps one shard, here or elsewhere.
#[derive(Clone)]
pub struct Runner {
    /// Makes its steps.
    pub step: Recipient<Step>,
    /// Packs it up.
    pub pack: Recipient<Pack>,
}

/// Who is told what comes of a shard.
#[derive(Clone)]
pub struct Outbox {
    /// Of its steps.
    pub stepped: Recipient<Stepped>,
    /// Of its being packed.
    pub packed: Recipient<PackedUp>,
}

/// Drives one shard.
pub struct ShardActor {
    region: RegionIndex,
    /// Nothing once it is packed.
    shard: Option<Shard>,
    outbox: Outbox,
}

impl ShardActor {
    /// Starts the actor of a shard, which answers to `outbox`.
    #[must_use]
    pub fn run(shard: Shard, outbox: Outbox) -> Runner {
        let actor = Self { region: shard.region(), shard: Some(shard), outbox }.start();
        Runner { step: actor.clone().recipient(), pack: actor.recipient() }
    }
}

impl Actor for ShardActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<Step> for ShardActor {
    type Result = ();

    fn handle(&mut self, Step { input, mut output }: Step, _: &mut Self::Context) {
        let Some(shard) = &mut self.shard else { return };
        let (region, tick) = (self.region, input.tick);
        let span = trace_span!("step", shard = region.0, tick = tick.0).entered();
        let began = clock::instant();
        shard.step(input, &mut output);
        let took = began.elapsed();
        drop(span);
        self.answer(Stepped { region, place: Place::Here, tick, output, took });
    }
}

impl Handler<Pack> for ShardActor {
    type Result = ();

    fn handle(&mut self, _: Pack, ctx: &mut Self::Context) {
        let Some(shard) = self.shard.take() else { return };
        self.give_up(PackedUp { place: Place::Here, shard: Box::new(shard.pack()) });
        ctx.stop();
    }
}

impl ShardActor {
    #[expect(
        clippy::disallowed_methods,
        reason = "one per step asked for; a lost one ends the beat"
    )]
    fn answer(&self, stepped: Stepped) {
        self.outbox.stepped.do_send(stepped);
    }

    #[expect(clippy::disallowed_methods, reason = "one per move; a lost one is a lost shard")]
    fn give_up(&self, packed: PackedUp) {
        self.outbox.packed.do_send(packed);
    }
}
