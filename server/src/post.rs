//! Letters that wait until what they confirm is on disk.
//!
//! What a client is told is done survives a power cut: its letter goes out only when the store
//! says that everything up to its number does. Letters keep their order per client.

use std::collections::VecDeque;

use crate::shard::viewer::ClientKey;
use crate::store::Number;
use protocol::message::ServerMessage;

/// The letters of one world that wait for the disk.
#[derive(Debug, Default)]
pub struct Post {
    waiting: VecDeque<(Number, ClientKey, ServerMessage)>,
}

impl Post {
    /// Keeps a letter until `after` is durable, and until those before it have gone out.
    pub fn keep(&mut self, after: Number, to: ClientKey, message: ServerMessage) {
        self.waiting.push_back((after, to, message));
    }

    /// Returns the next letter that may go out, now that everything up to `durable` is on disk.
    pub fn next(&mut self, durable: Number) -> Option<(ClientKey, ServerMessage)> {
        let &(number, ..) = self.waiting.front()?;
        if number > durable {
            return None;
        }
        self.waiting.pop_front().map(|(_, to, message)| (to, message))
    }

    /// Lets the letters whose number was not known yet wait for `number`.
    pub fn settle(&mut self, number: Number) {
        for (after, ..) in &mut self.waiting {
            *after = (*after).min(number);
        }
    }

    /// Returns whether the answer to a client's request waits here.
    #[must_use]
    pub fn answers(&self, client: ClientKey, request: u32) -> bool {
        self.waiting
            .iter()
            .any(|(_, to, message)| *to == client && answer(message) == Some(request))
    }

    /// Returns how many letters wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Returns whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Returns the request that a message answers for good.
#[must_use]
pub const fn answer(message: &ServerMessage) -> Option<u32> {
    if let ServerMessage::Done(done) = message {
        Some(done.request)
    } else if let ServerMessage::Refused(refused) = message {
        Some(refused.request)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use protocol::message::server::Notice;

    use super::*;

    #[test]
    fn nothing_goes_out_before_it_is_on_disk() {
        let mut post = Post::default();
        let note = |text: &str| ServerMessage::from(Notice { text: text.into() });
        post.keep(Number(1), ClientKey(7), note("a"));
        post.keep(Number(2), ClientKey(7), note("b"));
        assert_eq!(post.next(Number(0)), None);
        assert_eq!(post.next(Number(1)), Some((ClientKey(7), note("a"))));
        assert_eq!(post.next(Number(1)), None);
        assert_eq!(post.len(), 1);
        assert_eq!(post.next(Number(9)), Some((ClientKey(7), note("b"))));
        assert!(post.is_empty());
    }
}
