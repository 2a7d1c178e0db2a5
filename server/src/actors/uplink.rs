//! Uplink actor: carries what comes of shards from their process to the server.
//!
//! | in           | from   | effect              |
//! |--------------|--------|---------------------|
//! | [`Stepped`]  | shard  | sent over the link  |
//! | [`PackedUp`] | shard  | sent over the link  |
//! | [`Said`]     | worker | sent over the link  |
//!
//! | out    | to   | when the receiver is full                             |
//! |--------|------|-------------------------------------------------------|
//! | frames | link | the link is over: the server takes back what it gave  |

use actix::prelude::*;
use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::error;

use super::shard::{PackedUp, Stepped};
use crate::io::link::queue;
use crate::link::Up;

/// Messages that may wait: each shard answers one step before it is asked for the next.
const MAILBOX: usize = 1_024;

/// Something of the process's own.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Said(pub Up);

/// The way up.
pub struct Uplink {
    /// What is to be written to the link.
    pub outgoing: mpsc::Sender<Bytes>,
}

impl Actor for Uplink {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<Stepped> for Uplink {
    type Result = ();

    fn handle(&mut self, stepped: Stepped, ctx: &mut Self::Context) {
        let Stepped { region, tick, output, took, .. } = stepped;
        self.send(&Up::Stepped { region, tick, output, took }, ctx);
    }
}

impl Handler<PackedUp> for Uplink {
    type Result = ();

    fn handle(&mut self, PackedUp { shard, .. }: PackedUp, ctx: &mut Self::Context) {
        self.send(&Up::Packed { shard }, ctx);
    }
}

impl Handler<Said> for Uplink {
    type Result = ();

    fn handle(&mut self, Said(message): Said, ctx: &mut Self::Context) {
        self.send(&message, ctx);
    }
}

impl Uplink {
    fn send(&self, message: &Up, ctx: &mut Context<Self>) {
        if let Err(error) = queue(&self.outgoing, message) {
            error!(error, "the server does not take what comes of its shards");
            ctx.stop();
        }
    }
}
