//! Frames as they come for all clients, dealt with many at a time.

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use protocol::cache;
use protocol::io::clock::now_us;
use server::io::batched::Sink;
use tokio::sync::Notify;

use super::Crowd;

/// Frames that may wait: half a second's for 4,000 clients.
const FRAMES_MAX: usize = 40_000;

/// A frame: for whom, in which stay, and when it came.
type Frame = (usize, u32, u64, Bytes);

/// Frames that wait.
#[derive(Default)]
pub(super) struct Tray(Arc<(Mutex<Vec<Frame>>, Notify)>);

impl Tray {
    /// Returns what takes the frames of a client's stay.
    pub(super) fn sink(&self, client: usize, begun: u32) -> Sink {
        let shared = Arc::clone(&self.0);
        Box::new(move |bytes| {
            let (frames, come) = &*shared;
            let mut frames = frames.lock().unwrap_or_else(PoisonError::into_inner);
            // A load that is so late is not valid anyway: lost frames show it.
            if frames.len() < FRAMES_MAX {
                frames.push((client, begun, now_us(), bytes));
            }
            come.notify_one();
        })
    }

    fn swap(&self, taken: &mut Vec<Frame>) {
        let (frames, _) = &*self.0;
        std::mem::swap(&mut *frames.lock().unwrap_or_else(PoisonError::into_inner), taken);
    }
}

/// Gives every client its frames, until the crowd has ended.
pub(super) async fn deal(crowd: Rc<Crowd>) {
    let mut taken = Vec::new();
    while !crowd.is_over.get() {
        crowd.tray.0.1.notified().await;
        crowd.tray.swap(&mut taken);
        for (index, (client, begun, at_us, bytes)) in taken.iter().enumerate() {
            let (client, begun, at_us) = (*client, *begun, *at_us);
            if let Some(&(next, ..)) = taken.get(index + 2) {
                cache::prefetch(&crowd.visitors[next]);
            }
            if let Some(&(next, ..)) = taken.get(index + 1) {
                crowd.visitors[next].borrow().prefetch();
            }
            let mut visitor = crowd.visitors[client].borrow_mut();
            if visitor.frame(bytes, begun, at_us, &crowd)
                && let Some(due_us) = visitor.due_us()
            {
                crowd.rhythm.add(client, due_us);
            }
        }
        taken.clear();
    }
}
