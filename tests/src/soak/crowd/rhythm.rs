//! When the inputs of all clients are due.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::time::Duration;

use protocol::cache;
use protocol::io::clock::now_us;
use tokio::time::{MissedTickBehavior, interval};

use super::Crowd;

/// How often it is looked whose input is due.
const EVERY: Duration = Duration::from_millis(1);

/// Clients by when their next input is due.
#[derive(Default)]
pub(super) struct Rhythm(RefCell<Queue>);

#[derive(Default)]
struct Queue {
    dues: BinaryHeap<Reverse<(u64, usize)>>,
    /// Whether a client stands there already, by number: once is enough.
    waits: Vec<bool>,
}

impl Rhythm {
    /// Adds a client whose input is due then, unless it waits already.
    pub(super) fn add(&self, client: usize, due_us: u64) {
        let Queue { dues, waits } = &mut *self.0.borrow_mut();
        if waits.len() <= client {
            waits.resize(client + 1, false);
        }
        if !std::mem::replace(&mut waits[client], true) {
            dues.push(Reverse((due_us, client)));
        }
    }

    /// Returns who is next.
    fn peek(&self) -> Option<usize> {
        self.0.borrow().dues.peek().map(|&Reverse((_, client))| client)
    }

    /// Takes out the next client whose time has come.
    fn next(&self, now_us: u64) -> Option<usize> {
        let Queue { dues, waits } = &mut *self.0.borrow_mut();
        let &Reverse((due_us, client)) = dues.peek()?;
        if now_us < due_us {
            return None;
        }
        dues.pop();
        waits[client] = false;
        Some(client)
    }
}

/// Lets every client send its inputs when they are due, until the crowd has ended.
pub(super) async fn beat(crowd: Rc<Crowd>) {
    let mut looks = interval(EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !crowd.is_over.get() {
        looks.tick().await;
        let at_us = now_us();
        while let Some(client) = crowd.rhythm.next(at_us) {
            crowd.rhythm.peek().into_iter().for_each(|next| cache::prefetch(&crowd.visitors[next]));
            let mut visitor = crowd.visitors[client].borrow_mut();
            visitor.act(at_us, &crowd);
            // Nothing is due of one that has left; the first frame of its next stay adds it anew.
            if let Some(due_us) = visitor.due_us() {
                crowd.rhythm.add(client, due_us.max(at_us + 1));
            }
        }
    }
}
