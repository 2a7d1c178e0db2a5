//! The live stream behind the page: server-sent events, a picture and the new log lines.
//!
//! A slow reader gets fewer pictures, never a queue of them: each one is made when the connection
//! has room for it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::{CONTENT_TYPE, RETRY_AFTER};
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{Site, page};

/// Streams at once: every operator of a big world, twice; 16 x 100 KB/s.
const STREAMS_MAX: usize = 16;

/// How often the board is looked at: twice per picture, so that none is late by a whole one.
const LOOK_EVERY: Duration = Duration::from_millis(125);

/// Looks between two questions whether the operator is still one, and two signs of life: 5 s.
const LOOKS_PER_CHECK: u32 = 40;

/// Opens a stream for an operator.
pub(super) async fn open(request: HttpRequest, site: Data<Site>) -> HttpResponse {
    if let Err(denied) = site.access.admit(&request, site.clock.elapsed()) {
        return page::denial(denied);
    }
    let Some(place) = Place::take(&site.streams) else {
        return HttpResponse::ServiceUnavailable()
            .insert_header((RETRY_AFTER, "5"))
            .body("too many pages are open: close one\n");
    };
    let body = Live {
        site,
        request,
        looks: look_often(),
        looked: 0,
        seen: None,
        next_line: 0,
        _place: place,
    };
    HttpResponse::Ok().insert_header((CONTENT_TYPE, "text/event-stream")).body(body)
}

fn look_often() -> Interval {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

/// One of the [`STREAMS_MAX`] places, given back when dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(taken: &Arc<AtomicUsize>) -> Option<Self> {
        let place = Self(Arc::clone(taken));
        (taken.fetch_add(1, Ordering::Relaxed) < STREAMS_MAX).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of one stream.
struct Live {
    site: Data<Site>,
    request: HttpRequest,
    looks: Interval,
    looked: u32,
    /// The picture sent last, by its number.
    seen: Option<u64>,
    next_line: u64,
    _place: Place,
}

impl Live {
    /// Returns what is new on the board, as events; empty when nothing is.
    fn news(&mut self) -> String {
        let mut events = String::new();
        let pinned = self.site.board.pinned();
        if self.seen != Some(pinned) {
            self.seen = Some(pinned);
            push_event(&mut events, "status", &self.site.board.read());
        }
        let lines = self.site.board.log().since(self.next_line);
        if let Some(last) = lines.last() {
            self.next_line = last.number + 1;
            push_event(&mut events, "log", &lines.iter().map(AsRef::as_ref).collect::<Vec<_>>());
        }
        events
    }
}

impl MessageBody for Live {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let live = self.get_mut();
        loop {
            ready!(live.looks.poll_tick(context));
            live.looked += 1;
            let checks = live.looked.is_multiple_of(LOOKS_PER_CHECK);
            if checks && live.site.access.admit(&live.request, live.site.clock.elapsed()).is_err() {
                return Poll::Ready(None);
            }
            let mut events = live.news();
            if checks && events.is_empty() {
                events.push_str(": alive\n\n");
            }
            if !events.is_empty() {
                return Poll::Ready(Some(Ok(events.into())));
            }
        }
    }
}

fn push_event(events: &mut String, name: &str, value: &impl serde::Serialize) {
    // Numbers, texts and lists always have a JSON form, and it has no line break.
    let Ok(json) = serde_json::to_string(value) else { return };
    for piece in ["event: ", name, "\ndata: ", &json, "\n\n"] {
        events.push_str(piece);
    }
}
