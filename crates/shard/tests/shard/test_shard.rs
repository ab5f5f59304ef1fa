//! A test environment for a shard: a control plane that the test controls, and clients on socket pairs.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tidings_hub::{
    Interest, Namespace, NamespaceOptions, Namespaces, SessionKey, Settings, SlowConsumerPolicy,
};
use tidings_session::ProtocolSettings;
use tidings_session::{Notification, Request};
use tidings_shard::{
    Control, Handoffs, Limits, LineConnection, Mailbox, Metrics, Process, Reply, ShardMessage, Socket,
    TransportKind, prepare,
};
use tidings_testkit::{PATIENCE, wait_until};
use tidings_wire::{Channel, Delivery, Publication, Topic};

/// A control plane that records requests; the test sends the responses.
#[derive(Default)]
pub(crate) struct Plane {
    subscribed: Mutex<Vec<Topic>>,
    requests: Mutex<VecDeque<(Request, Reply)>>,
    subscribers: Arc<AtomicU64>,
}

impl Control for Plane {
    fn subscribe_topic(&self, _: usize, topic: &Topic) -> (Interest, Arc<AtomicU64>) {
        self.subscribed.lock().expect("no panic").push(topic.clone());
        (Interest::Pending, Arc::clone(&self.subscribers))
    }

    fn unsubscribe_topic(&self, _: usize, topic: &Topic) {
        self.subscribed.lock().expect("no panic").retain(|other| other != topic);
    }

    fn request(&self, request: Request, reply: Reply) {
        self.requests.lock().expect("no panic").push_back((request, reply));
    }

    fn notify(&self, _: Notification) {}

    fn congested(&self) -> bool {
        false
    }
}

/// A running shard.
pub(crate) struct TestShard {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) plane: Arc<Plane>,
    thread: Option<JoinHandle<()>>,
}

/// Limits that no test reaches unintentionally.
pub(crate) fn limits() -> Limits {
    Limits {
        queue: 1 << 20,
        queues: 16 << 20,
        connections: 1_000,
        mailbox: 16 << 20,
        reads: 4 << 20,
        close_delay: Duration::from_secs(1),
        compression_level: 1,
        compression_min_size: 0,
        move_age: Duration::from_millis(200),
    }
}

pub(crate) fn topic(name: &str) -> Topic {
    Topic::Channel(Channel::new(name).expect("a name"))
}

impl TestShard {
    /// A shard without access control, with channels `cut:…` that disconnect slow subscribers.
    pub(crate) fn new(limits: Limits) -> Self {
        let cut = NamespaceOptions { slow_consumer: SlowConsumerPolicy::Cut, ..NamespaceOptions::default() };
        let settings = Settings {
            namespaces: Namespaces::new(
                NamespaceOptions::default(),
                [Namespace { name: "cut".into(), options: cut }],
            ),
            ..Settings::workbench(SessionKey::new(&[7; SessionKey::LEN]))
        };
        let protocols = ProtocolSettings { auto_subscribe: Vec::new(), ..ProtocolSettings::workbench() };
        let plane = Arc::new(Plane::default());
        let control: Arc<dyn Control> = Arc::clone(&plane) as _;
        let shards = prepare(1, limits).expect("an event queue");
        let (mailbox, metrics) = (Arc::clone(&shards.mailboxes()[0]), Arc::clone(&shards.metrics()[0]));
        let threads = shards.start(
            &Arc::new(settings),
            &Arc::new(protocols),
            &control,
            &Handoffs::default(),
            &Arc::new(Process::default()),
        );
        let thread = threads.expect("a thread").pop();
        Self { mailbox, metrics, plane, thread }
    }

    /// Opens a connection.
    pub(crate) fn client(&self) -> Client {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        theirs.set_nonblocking(true).expect("a socket");
        ours.set_read_timeout(Some(PATIENCE)).expect("a socket");
        self.mailbox.post(ShardMessage::Connection(LineConnection::direct(Socket::unix(theirs))));
        Client { writer: ours.try_clone().expect("a socket"), reader: BufReader::new(ours) }
    }

    /// Opens a connection that is subscribed to a channel.
    pub(crate) fn subscriber(&self, name: &str) -> Client {
        let mut client = self.client();
        client.send(&format!("SUBSCRIBE {name}"));
        self.wait_for_topic(name);
        self.mailbox.post(ShardMessage::Live(topic(name)));
        assert_eq!(client.line(), "CONFIRMED");
        client
    }

    pub(crate) fn wait_for_topic(&self, name: &str) {
        let topic = topic(name);
        wait_until(PATIENCE, "the subscription of a topic", || {
            self.plane.subscribed.lock().expect("no panic").contains(&topic)
        });
    }

    /// The oldest request without a response.
    pub(crate) fn request(&self) -> (Request, Reply) {
        let mut next = None;
        wait_until(PATIENCE, "a request", || {
            next = self.plane.requests.lock().expect("no panic").pop_front();
            next.is_some()
        });
        next.expect("a request")
    }

    /// Adds a publication to the mailbox without waking the shard; `false` if the mailbox is full.
    pub(crate) fn deliver(&self, name: &str, body: impl Into<Bytes>) -> bool {
        let channel = Channel::new(name).expect("a name");
        let publication = Arc::new(Publication::new(channel, body.into()));
        self.mailbox.deliver(Delivery { topic: topic(name), publication })
    }

    pub(crate) fn publish(&self, name: &str, body: impl Into<Bytes>) {
        assert!(self.deliver(name, body), "the mailbox is full");
        self.mailbox.wake();
    }

    pub(crate) fn subscriptions(&self) -> u64 {
        self.metrics.subscriptions.load(Ordering::Relaxed)
    }

    /// The number of publications written to subscribers.
    pub(crate) fn deliveries(&self) -> u64 {
        self.metrics.deliveries.load(Ordering::Relaxed)
    }

    /// The number of connections over Unix sockets.
    pub(crate) fn connections(&self) -> u64 {
        self.metrics.connections[TransportKind::Unix].load(Ordering::Relaxed)
    }
}

impl Drop for TestShard {
    fn drop(&mut self) {
        self.mailbox.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The other end of a connection.
pub(crate) struct Client {
    writer: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Client {
    pub(crate) fn send(&mut self, line: &str) {
        self.writer.write_all(format!("{line}\r\n").as_bytes()).expect("a connection");
    }

    /// The next line without its ending; empty at the end of the connection.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a line in time");
        line.trim_end().to_owned()
    }
}
