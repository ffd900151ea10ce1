//! Owner and members over a real socket.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tempfile::TempDir;
use tokio::sync::broadcast;
use tokio::time::timeout;
use undercurrent_schemas::ids::{Micros, Sequence};
use undercurrent_schemas::v1::{self, from_owner, to_owner};

use super::address::Address;
use super::frames::{Reader, Writer};
use super::*;
use crate::clock::EventClock;
use crate::log::{EmbeddedLog, EventLog, LogFull, LogOptions};

/// Longer than any test takes: a wait that is over is a failure.
const LONG: Duration = Duration::from_secs(60);

/// A model of one version, and what the test says of it.
#[derive(Debug)]
struct Models {
    version: u64,
    updates: broadcast::Sender<Arc<v1::ModelUpdate>>,
}

impl Models {
    fn at(version: u64) -> Arc<Self> {
        Arc::new(Self { version, updates: broadcast::Sender::new(4) })
    }
}

impl ModelFeed for Models {
    fn base(&self) -> v1::ModelUpdate {
        v1::ModelUpdate { version: self.version, base: true, ..Default::default() }
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<v1::ModelUpdate>> {
        self.updates.subscribe()
    }
}

/// An owner whose connections live as long as it.
struct Owner {
    log: Arc<EmbeddedLog>,
    server: tokio::task::JoinHandle<()>,
    lock: OwnerLock,
}

impl Owner {
    fn start(lock: OwnerLock, options: LogOptions, models: Arc<Models>) -> Self {
        let log = Arc::new(EmbeddedLog::open(&lock.data_dir().join("log"), options).unwrap());
        let server = Server::bind(&lock, Arc::clone(&log) as _, models).unwrap();
        Self { log, server: tokio::spawn(server.run()), lock }
    }

    fn claim(data: &Path) -> Self {
        let Ok(Claim::Owner(lock)) = claim(data) else { panic!("nobody else has it") };
        Self::start(lock, LogOptions::default(), Models::at(1))
    }

    /// As a process that is killed: members see their connections end, then the lock is free.
    async fn stop(self) {
        self.server.abort();
        let _ = self.server.await;
        let mut log = self.log;
        while Arc::get_mut(&mut log).is_none() {
            // The connections are aborted; each ends when it is polled next.
            tokio::task::yield_now().await;
        }
        drop(log);
        drop(self.lock);
    }
}

fn member(events_max: usize) -> Arc<MemberLog> {
    let clock = Arc::new(EventClock::starting_at(Micros(0)));
    Arc::new(MemberLog::new(MemberLimits { events_max, ..MemberLimits::default() }, clock).unwrap())
}

fn event(session: &str) -> v1::Event {
    v1::Event { session_id: session.to_owned(), ..Default::default() }
}

fn run(member: &Arc<MemberLog>, data: &TempDir) -> tokio::task::JoinHandle<OwnerLock> {
    let (member, data) = (Arc::clone(member), data.path().to_owned());
    tokio::spawn(async move { member.run_until_owner(&data, |_| {}).await.unwrap() })
}

async fn wait_durable(log: &dyn EventLog, sequence: u64) {
    let mut durable = log.durable();
    let wait = durable.wait_for(|safe| safe.0 >= sequence);
    assert!(timeout(LONG, wait).await.is_ok(), "sequence {sequence} is not durable");
}

/// Sequences of the sessions' events of one gateway, in log order.
fn logged(log: &EmbeddedLog, member: &MemberLog) -> Vec<u64> {
    let mut tail = log.tail(None);
    let mut sequences = Vec::new();
    while let Some(tick) = tail.next(Duration::ZERO).unwrap() {
        for record in tick.batches.iter().flat_map(|batch| &batch.records) {
            let event = v1::Event::decode(&record[..]).unwrap();
            let id = event.id.unwrap();
            if id.gateway == member.life().gateway && !event.session_id.is_empty() {
                sequences.push(id.sequence);
            }
        }
    }
    sequences
}

/// Appends events of one session; they are of one partition, so their order shows.
fn append(member: &MemberLog, count: usize) -> Vec<u64> {
    (0..count).map(|_| member.append(event("one session")).unwrap().0).collect()
}

#[tokio::test]
async fn events_of_two_members_arrive_once_and_are_acknowledged() {
    let data = tempfile::tempdir().unwrap();
    let owner = Owner::claim(data.path());
    let members = [member(1_000), member(1_000)];
    let tasks = members.each_ref().map(|member| run(member, &data));
    for member in &members {
        let appended = append(member, 100);
        wait_durable(&**member, appended[99]).await;
        assert_eq!(logged(&owner.log, member), appended);
    }
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    owner.stop().await;
}

#[tokio::test]
async fn when_the_owner_goes_a_member_takes_over_and_nothing_is_lost_or_doubled() {
    let data = tempfile::tempdir().unwrap();
    let owner = Owner::claim(data.path());
    let members = [member(10_000), member(10_000)];
    let mut tasks = members.each_ref().map(|member| run(member, &data));
    let mut appended = members.each_ref().map(|member| append(member, 200));
    wait_durable(&*members[0], appended[0][0]).await;
    owner.stop().await;
    for (member, appended) in members.iter().zip(&mut appended) {
        appended.extend(append(member, 200));
    }

    let [first, second] = &mut tasks;
    let (heir, lock) = timeout(LONG, async {
        tokio::select! {
            lock = first => (0, lock.unwrap()),
            lock = second => (1, lock.unwrap()),
        }
    })
    .await
    .unwrap();
    let next = Owner::start(lock, LogOptions::default(), Models::at(2));
    let (log, own) = (Arc::clone(&next.log), Arc::clone(&members[heir]));
    let local = tokio::spawn(async move { own.run_into(&*log).await });
    for (member, appended) in members.iter().zip(&mut appended) {
        appended.extend(append(member, 10));
        wait_durable(&**member, appended[409]).await;
        assert_eq!(&logged(&next.log, member), appended);
    }
    local.abort();
    let _ = local.await;
    tasks[1 - heir].abort();
    next.stop().await;
}

#[tokio::test]
async fn a_member_without_an_owner_drops_and_says_so_later() {
    let data = tempfile::tempdir().unwrap();
    let member = member(2);
    append(&member, 2);
    assert_eq!(member.append(event("one session")), Err(LogFull));
    assert_eq!(member.unacked_events(), 2);
    let owner = Owner::claim(data.path());
    let task = run(&member, &data);
    // The gap event is the third.
    wait_durable(&*member, 3).await;
    assert_eq!(member.dropped_events(), 1);
    assert_eq!(append(&member, 1), [4]);
    wait_durable(&*member, 4).await;
    task.abort();
    owner.stop().await;
}

#[tokio::test]
async fn a_full_log_slows_members_down_and_loses_nothing() {
    let data = tempfile::tempdir().unwrap();
    let Ok(Claim::Owner(lock)) = claim(data.path()) else { panic!("nobody else has it") };
    let options = LogOptions { queue_events_max: 7, ..LogOptions::default() };
    let owner = Owner::start(lock, options, Models::at(1));
    let member = member(1_000);
    let appended = append(&member, 50);
    let task = run(&member, &data);
    wait_durable(&*member, 50).await;
    assert_eq!(logged(&owner.log, &member), appended);
    assert_eq!(owner.log.status().dropped_events, 0);
    task.abort();
    owner.stop().await;
}

#[tokio::test]
async fn models_come_whole_first_and_then_as_changes() {
    let data = tempfile::tempdir().unwrap();
    let Ok(Claim::Owner(lock)) = claim(data.path()) else { panic!("nobody else has it") };
    let models = Models::at(5);
    let owner = Owner::start(lock, LogOptions::default(), Arc::clone(&models));
    let (sender, mut received) = tokio::sync::mpsc::channel(16);
    let (member, path) = (member(10), data.path().to_owned());
    let task = tokio::spawn(async move {
        let mut on_model = |update: v1::ModelUpdate| sender.try_send((update.version, update.base)).unwrap();
        member.run(&path, &mut on_model).await
    });
    assert_eq!(timeout(LONG, received.recv()).await.unwrap(), Some((5, true)));
    // An update that the base had already is not sent.
    for version in [5, 6] {
        models.updates.send(Arc::new(v1::ModelUpdate { version, ..Default::default() })).unwrap();
    }
    assert_eq!(timeout(LONG, received.recv()).await.unwrap(), Some((6, false)));
    // One that falls behind starts anew.
    for version in 7..=20 {
        models.updates.send(Arc::new(v1::ModelUpdate { version, ..Default::default() })).unwrap();
    }
    assert_eq!(timeout(LONG, received.recv()).await.unwrap(), Some((5, true)));
    owner.stop().await;
    assert!(timeout(LONG, task).await.unwrap().unwrap().is_ok(), "the owner went");
}

#[tokio::test]
async fn another_protocol_is_refused_in_words() {
    let data = tempfile::tempdir().unwrap();
    let owner = Owner::claim(data.path());
    let (receiver, sender) = tokio::io::split(Address::of(data.path()).connect().await.unwrap());
    let hello = v1::Hello { protocol: PROTOCOL + 1, gateway: 1, epoch: 1 };
    let hello = v1::ToOwner { body: Some(to_owner::Body::Hello(hello)) };
    Writer::new(sender).send(&hello).await.unwrap();
    let mut receiver = Reader::<_, v1::FromOwner>::new(receiver);
    let answer = timeout(LONG, receiver.next()).await.unwrap().unwrap().unwrap();
    let Some(from_owner::Body::Refused(refused)) = answer.body else { panic!("refused") };
    assert!(refused.reason.contains("protocol 2"), "{}", refused.reason);
    assert!(refused.reason.contains("same version"), "{}", refused.reason);
    assert!(matches!(timeout(LONG, receiver.next()).await.unwrap(), Ok(None)), "and the connection is closed");
    owner.stop().await;
}

#[cfg(unix)]
#[tokio::test]
async fn the_socket_is_for_its_owner_alone_and_a_stale_one_is_replaced() {
    use std::os::unix::fs::PermissionsExt as _;
    let data = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let owner = Owner::claim(data.path());
        let mode = std::fs::metadata(data.path().join("undercurrent.sock")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        owner.stop().await;
    }
}

#[test]
fn sequences_of_a_member_have_no_holes() {
    let member = member(10);
    assert_eq!(append(&member, 3), [1, 2, 3]);
    assert_eq!(*member.durable().borrow(), Sequence(0));
}
