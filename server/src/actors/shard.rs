//! Shard actor: owns one [`Shard`] and steps it when the gateway says so.
//!
//! | in       | from    | effect                          |
//! |----------|---------|---------------------------------|
//! | [`Step`] | gateway | one step; answered by [`Stepped`] |
//!
//! | out         | to      | when the receiver is full                       |
//! |-------------|---------|-------------------------------------------------|
//! | [`Stepped`] | gateway | waits there: one per shard and tick              |

use std::time::Duration;

use actix::prelude::*;
use protocol::units::Tick;
use tracing::trace_span;

use crate::io::clock;
use crate::region::RegionIndex;
use crate::shard::Shard;
use crate::shard::batch::{StepInput, StepOutput};

/// Messages that may wait: the gateway asks for one step at a time.
const MAILBOX: usize = 4;

/// Step to a tick.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Step {
    /// What goes in.
    pub input: StepInput,
    /// Buffers to write to, used before.
    pub output: StepOutput,
}

/// A step was made.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Stepped {
    /// Whose shard.
    pub region: RegionIndex,
    /// The tick it is at.
    pub tick: Tick,
    /// What came of it.
    pub output: StepOutput,
    /// How long it took.
    pub took: Duration,
}

/// Drives one shard.
pub struct ShardActor {
    region: RegionIndex,
    shard: Shard,
    gateway: Recipient<Stepped>,
}

impl ShardActor {
    /// Returns the actor of a shard, which answers to `gateway`.
    #[must_use]
    pub const fn new(region: RegionIndex, shard: Shard, gateway: Recipient<Stepped>) -> Self {
        Self { region, shard, gateway }
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
        let (region, tick) = (self.region, input.tick);
        let span = trace_span!("step", shard = region.0, tick = tick.0).entered();
        let began = clock::instant();
        self.shard.step(input, &mut output);
        let took = began.elapsed();
        drop(span);
        let stepped = Stepped { region, tick, output, took };
        self.answer(stepped);
    }
}

impl ShardActor {
    #[expect(
        clippy::disallowed_methods,
        reason = "one per step asked for; a lost one ends the beat"
    )]
    fn answer(&self, stepped: Stepped) {
        self.gateway.do_send(stepped);
    }
}
