//! Remote shard actor: stands for a shard that runs in another process.
//!
//! | in       | from    | effect                                |
//! |----------|---------|---------------------------------------|
//! | [`Step`] | gateway | sent over the link                    |
//! | [`Pack`] | gateway | sent over the link                    |
//!
//! | out             | to      | when the receiver is full              |
//! |-----------------|---------|----------------------------------------|
//! | frames          | link    | the process is too slow: [`LinkLost`]  |
//! | [`LinkLost`]    | gateway | told again with the next step          |
//!
//! What comes back is heard by `crate::io::link` and goes to the gateway from there.

use actix::prelude::*;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::gateway::LinkLost;
use super::shard::{Pack, Runner, Step};
use crate::hosting::LinkId;
use crate::io::link::queue;
use crate::link::Down;
use crate::region::RegionIndex;

/// Messages that may wait: as for a shard of this process.
const MAILBOX: usize = 16;

/// The way to one shard in another process.
pub struct RemoteShardActor {
    link: LinkId,
    region: RegionIndex,
    outgoing: mpsc::Sender<Bytes>,
    lost: Recipient<LinkLost>,
}

impl RemoteShardActor {
    /// Starts the actor of a shard that runs behind `outgoing`.
    #[must_use]
    pub fn run(
        (link, region): (LinkId, RegionIndex),
        outgoing: mpsc::Sender<Bytes>,
        lost: Recipient<LinkLost>,
    ) -> Runner {
        let actor = Self { link, region, outgoing, lost }.start();
        Runner { step: actor.clone().recipient(), pack: actor.recipient() }
    }

    fn send(&self, message: &Down) {
        if let Err(why) = queue(&self.outgoing, message) {
            // A gateway that is full hears of it with the next step.
            drop(self.lost.try_send(LinkLost { link: self.link, why }));
        }
    }
}

impl Actor for RemoteShardActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<Step> for RemoteShardActor {
    type Result = ();

    fn handle(&mut self, Step { input, .. }: Step, _: &mut Self::Context) {
        self.send(&Down::Step { region: self.region, input });
    }
}

impl Handler<Pack> for RemoteShardActor {
    type Result = ();

    fn handle(&mut self, _: Pack, _: &mut Self::Context) {
        self.send(&Down::Pack { region: self.region });
    }
}
