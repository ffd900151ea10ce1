//! Streams of all upstreams as one: the GET stream of a session, and `subscriptions/listen`.
//!
//! Not here: what becomes of an event (`events`). Invariant: events are whole, and those of one upstream keep their order.
//! An upstream without such a stream, or whose stream ended, does not end the client's; none of them can be resumed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::{self, BoxStream};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use super::ask::{Answer, Failure};
use super::events::{Events, Stream};
use super::member::{Caller, Headers, Message};
use super::sessions::{Opened, Session};
use super::{Aggregate, all_failed};
use crate::gateway::call::Body;
use crate::gateway::envelope::{self, Shape};
use crate::gateway::rescue::Refusal;
use crate::gateway::sse::{SseEvent, SseParser};
use crate::gateway::tap::Content;

/// How often a silent stream says that it lives: proxies in between cut streams that seem dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long after an upstream has ended its stream it is asked for another, at first and at last.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);

const ACKNOWLEDGED: &[u8] = b"notifications/subscriptions/acknowledged";

impl Aggregate {
    /// What upstreams say to a session without being asked.
    pub(super) fn listen(self: &Arc<Self>, caller: Caller, session: Arc<Session>) -> Result<Response<Body>, Refusal> {
        let place = session.listen().ok_or(Refusal::StreamTaken)?;
        let ended = session.ended.clone().cancelled_owned();
        let heard = (0..self.members.len()).map(|member| {
            let listening = Listening {
                aggregate: Arc::clone(self),
                caller: caller.clone(),
                session: Arc::clone(&session),
                member,
                last: None,
                again: AGAIN,
                events: None,
            };
            stream::unfold(listening, Listening::next).boxed()
        });
        let events = stream::select(stream::select_all(heard), keep_alive()).take_until(ended);
        Ok(stream_of(events.map(move |event| {
            // Taken until the client leaves.
            let _ = &place;
            event
        })))
    }

    /// `subscriptions/listen` at every upstream.
    pub(super) async fn subscribe(&self, caller: &Caller, body: &Bytes) -> Result<Response<Body>, Refusal> {
        let message = Message::post(body.clone(), Headers::Kept);
        let after_write = &caller.client.after_write;
        let asked = self.members.iter().map(|member| async {
            let response =
                tokio::time::timeout(self.settings.patience, self.send(caller, member, &message, after_write));
            let response = response.await.unwrap_or(Err(Failure::TimedOut))?;
            if response.status().is_success() && matches!(Content::of_headers(response.headers()), Content::Events) {
                return Ok(Events::new(response.into_body(), member.name.clone(), self.bytes_max(), Stream::OfAll));
            }
            let answer = tokio::time::timeout(self.settings.patience, Answer::collect(response, self.bytes_max()));
            Err(Failure::Refused(answer.await.unwrap_or(Err(Failure::TimedOut))?))
        });
        let asked = join_all(asked).await;
        let (mut streams, mut failures) = (Vec::new(), Vec::new());
        let acknowledged = Arc::new(AtomicBool::new(false));
        for (member, asked) in self.members.iter().zip(asked) {
            match asked {
                Ok(events) => streams.push(subscribed(events, Arc::clone(&acknowledged))),
                Err(failure) => {
                    self.left_out(member, "subscriptions/listen", &failure);
                    failures.push(failure);
                }
            }
        }
        if streams.is_empty() {
            return all_failed(failures);
        }
        // The client's request is answered when all upstreams have ended, by the last of them.
        let last = stream::unfold((stream::select_all(streams), None), |(mut all, mut answer)| async move {
            loop {
                match all.next().await {
                    Some(Said::Event(event)) => return Some((event, (all, answer))),
                    Some(Said::Answer(event)) => answer = Some(event),
                    None => return Some((answer.take()?, (all, None))),
                }
            }
        });
        let ended = Arc::new(tokio::sync::Notify::new());
        let notified = Arc::clone(&ended);
        let last = last.chain(stream::once(async move {
            ended.notify_one();
            Bytes::new()
        }));
        let alive = keep_alive().take_until(async move { notified.notified().await });
        Ok(stream_of(stream::select(last.filter(|event| std::future::ready(!event.is_empty())), alive.boxed())))
    }
}

/// One upstream's part of a session's stream.
struct Listening {
    aggregate: Arc<Aggregate>,
    caller: Caller,
    session: Arc<Session>,
    member: usize,
    /// The session at the upstream whose stream was had, or refused.
    last: Option<Arc<Opened>>,
    again: Duration,
    events: Option<Events>,
}

impl Listening {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        loop {
            if let Some(events) = &mut self.events {
                if let Some(Ok(event)) = events.next().await {
                    self.again = AGAIN;
                    return Some((event, self));
                }
                self.events = None;
                tokio::time::sleep(self.again).await;
                self.again = AGAIN_MAX.min(self.again * 2);
            }
            self.open().await?;
        }
    }

    async fn open(&mut self) -> Option<()> {
        let member = self.aggregate.members.get(self.member)?;
        let opened = self.session.at(&member.name).opened(self.last.as_ref()).await;
        let call = self.caller.call(
            member,
            Some(&opened),
            &Message::empty(Method::GET),
            self.caller.client.after_write.clone(),
        );
        let response = member.answer(call).await;
        if response.status().is_success() && matches!(Content::of_headers(response.headers()), Content::Events) {
            let bytes_max = self.aggregate.bytes_max();
            self.events = Some(Events::new(response.into_body(), member.name.clone(), bytes_max, Stream::OfAll));
        } else {
            // It has no such stream, or no longer this session: not before there is another.
            self.last = Some(opened);
        }
        Some(())
    }
}

/// What comes of one upstream's subscription.
enum Said {
    Event(Bytes),
    /// The answer to the request itself.
    Answer(Bytes),
}

fn subscribed(events: Events, acknowledged: Arc<AtomicBool>) -> BoxStream<'static, Said> {
    stream::unfold((events, acknowledged), |(mut events, acknowledged)| async move {
        loop {
            let event = events.next().await?.ok()?;
            match kind(&event) {
                Some(Kind::Answer) => return Some((Said::Answer(event), (events, acknowledged))),
                // One is enough for the client.
                Some(Kind::Acknowledged) if acknowledged.swap(true, Ordering::Relaxed) => {}
                Some(Kind::Acknowledged) | None => return Some((Said::Event(event), (events, acknowledged))),
            }
        }
    })
    .boxed()
}

enum Kind {
    Answer,
    Acknowledged,
}

fn kind(event: &[u8]) -> Option<Kind> {
    let mut found = None;
    SseParser::new(event.len()).feed(event, |event| {
        let SseEvent::Data(data) = event else { return };
        let Some(message) = envelope::Message::read(data) else { return };
        found = match message.shape() {
            Shape::Response => Some(Kind::Answer),
            Shape::Notification if message.method.as_deref().map(str::as_bytes) == Some(ACKNOWLEDGED) => {
                Some(Kind::Acknowledged)
            }
            Shape::Request | Shape::Notification => None,
        };
    });
    found
}

fn keep_alive() -> BoxStream<'static, Bytes> {
    let first = tokio::time::Instant::now() + KEEP_ALIVE;
    stream::unfold(tokio::time::interval_at(first, KEEP_ALIVE), |mut ticks| async move {
        ticks.tick().await;
        Some((Bytes::from_static(b":\n\n"), ticks))
    })
    .boxed()
}

fn stream_of(events: impl stream::Stream<Item = Bytes> + Send + 'static) -> Response<Body> {
    let frames = events.map(|event| Ok(Frame::data(event)));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-cache"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    response.headers_mut().extend(headers.map(|(name, value)| (name, HeaderValue::from_static(value))));
    response
}
