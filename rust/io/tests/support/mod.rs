//! A shard that runs, and what its clients read.

#![allow(dead_code, reason = "each test file uses its part")]

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc;

use fanout_engine::channel::Start;
use fanout_engine::hub::{Hub, Routing, Settings};
use fanout_engine::record::Record;
use fanout_engine::route::Rules;
use fanout_engine::shard::{Handle, NewAttachment, NewConnection};
use fanout_engine::wire::Wire;
use fanout_io::sys::monotonic_ms;
use fanout_io::{Command, Driver, Happened, Port, Socket, Sockets, Submit};

/// One shard on a thread of its own.
pub struct Node {
    pub hub: Arc<Hub>,
    pub port: Arc<Port>,
    pub sockets: Sockets,
    /// What the shard has told.
    pub happened: mpsc::Receiver<Happened>,
    thread: Option<std::thread::JoinHandle<()>>,
    pub next: i64,
}

impl Node {
    pub fn start(submit: Submit) -> Self {
        let hub = Arc::new(Hub::new(Settings { key: [1; 16], history_ms: 60_000, history_bytes: 64 << 20 }));
        hub.set_rules(Rules::new([("t", "#{key}")]).unwrap());
        hub.assign("t", [1; 16], 0, 0).unwrap();
        let port = Arc::new(Port::new(true).unwrap());
        let (tell, happened) = mpsc::channel();
        let report = Box::new(move |happened| {
            let _ = tell.send(happened); // nobody listens any more at the end of a test
        });
        let driver = Driver::new(Arc::clone(&hub), Arc::clone(&port), submit, 15_000, report).unwrap();
        let thread = Some(std::thread::spawn(move || driver.run()));
        Self { hub, port, sockets: Sockets::new(1), happened, thread, next: 0 }
    }

    /// A connection over a socket, attached to the channel.
    pub fn connect(&mut self, server: &impl AsRawFd) -> Handle {
        for gone in self.happened.try_iter().flat_map(|happened| happened.gone) {
            self.sockets.release(gone);
        }
        let (handle, socket) = self.sockets.register(server.as_raw_fd(), Wire::Json, monotonic_ms()).unwrap();
        self.enter(handle, socket);
        handle
    }

    /// A connection over a pipe, likewise.
    pub fn connect_pipe(&mut self) -> (Handle, Arc<Socket>) {
        let (handle, socket) = self.sockets.register_pipe(Wire::Json, monotonic_ms()).unwrap();
        self.enter(handle, Arc::clone(&socket));
        (handle, socket)
    }

    fn enter(&self, handle: Handle, socket: Arc<Socket>) {
        let new = NewConnection { handle, wire: Wire::Json, connection_id: "c".into(), heartbeat_frames: false };
        self.port.push(Command::Register(new, socket));
        let plan = self.hub.locate("c", None, Start::Live, 0);
        let new = NewAttachment::plain(1, plan);
        self.port.push(Command::Attach(handle, new, b""[..].into()));
    }

    pub fn disconnect(&mut self, handle: Handle) {
        self.sockets.unregister(handle).unwrap();
        self.port.push(Command::Unregister(handle));
    }

    pub fn publish(&mut self, value: &[u8]) {
        let record = Record {
            topic: "t",
            partition: 0,
            offset: self.next,
            epoch: 0,
            timestamp: 0,
            key: Some(b"c"),
            value: Some(value),
            headers: &[],
        };
        self.next += 1;
        self.hub.ingest([(record, Routing::Rules)].into_iter(), monotonic_ms());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.port.push(Command::Stop);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// The offsets of the messages in a stream of frames, which must be whole and of nothing else.
pub fn offsets(mut stream: &[u8]) -> Vec<i64> {
    let mut found = Vec::new();
    while !stream.is_empty() {
        assert_eq!(stream[0], 0x81, "a frame begins where the last one ended");
        let (length, header) = match stream[1] {
            126 => (usize::from(u16::from_be_bytes([stream[2], stream[3]])), 4),
            127 => (u64::from_be_bytes(stream[2..10].try_into().unwrap()) as usize, 10),
            short => (usize::from(short), 2),
        };
        let text = std::str::from_utf8(&stream[header..header + length]).unwrap();
        found.extend(
            text.split("\"id\":\"t:0:").skip(1).map(|rest| rest.split('"').next().unwrap().parse::<i64>().unwrap()),
        );
        stream = &stream[header + length..];
    }
    found
}
