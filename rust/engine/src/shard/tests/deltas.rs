//! Clients of the protocol, as strict as the strictest of them, who are given deltas and filtered messages: whatever
//! happens, each decodes exactly what was published for it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oxidelta::compress::decoder::decode_all;
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;
use crate::filter::Filter;
use crate::hub::Plan;
use crate::kind::Kind;
use crate::limits::{FILTER_NS, PASS_NS};
use crate::message::{FIELDS, Form, Message};
use crate::wire::websocket;

const CHANNEL: &str = "c";
const ATTACHED: &[u8] = b"\x82\x0d{\"action\":11}";

/// A message as it was published.
#[derive(Debug, Clone)]
struct Sent {
    id: String,
    publisher: usize,
    wanted: bool,
    payload: Option<Vec<u8>>,
}

/// What a client has decoded, and from what it goes on.
#[derive(Debug, Default)]
struct Client {
    wire: Option<Wire>,
    /// Bytes of its connection that it has read.
    read: usize,
    last_id: String,
    payload: Vec<u8>,
    serial: Option<String>,
    got: Vec<(String, Option<Vec<u8>>)>,
    deltas: usize,
}

impl Client {
    fn read(&mut self, taken: &[u8]) {
        while taken.len() > self.read + websocket::HEADER_MAX {
            let (size, header) = match taken[self.read + 1] {
                126 => (usize::from(u16::from_be_bytes([taken[self.read + 2], taken[self.read + 3]])), 4),
                127 => (u64::from_be_bytes(taken[self.read + 2..self.read + 10].try_into().unwrap()) as usize, 10),
                short => (usize::from(short), 2),
            };
            let Some(mut payload) = taken.get(self.read + header..self.read + header + size) else { return };
            self.read += header + size;
            let is_json = payload[0] == b'{';
            let frame = if is_json { serde_json::from_slice(payload).unwrap() } else { unpacked(&mut payload) };
            if frame["action"] == 15 {
                self.messages(&frame, is_json);
            }
        }
    }

    fn messages(&mut self, frame: &Value, is_json: bool) {
        let before = self.last_id.clone();
        for message in frame["messages"].as_array().unwrap() {
            let id = message["id"].as_str().unwrap().to_owned();
            let steps = message["encoding"].as_str().unwrap_or_default();
            let mut data = message["data"].as_str().map(|text| text.as_bytes().to_vec());
            let bare = steps.strip_suffix("base64").map(|rest| rest.trim_end_matches('/'));
            if is_json && let Some(text) = data.take_if(|_| bare.is_some()) {
                data = Some(STANDARD.decode(text).unwrap());
            } else if let Some(bytes) = message["data"].as_array() {
                data = Some(bytes.iter().map(|byte| byte.as_u64().unwrap() as u8).collect());
            }
            if bare.unwrap_or(steps).ends_with("vcdiff") {
                assert_eq!(message["extras"]["delta"]["from"], before, "compared with the frame before");
                data = Some(decode_all(&self.payload, &data.unwrap()).unwrap());
                self.deltas += 1;
            }
            self.payload = data.clone().unwrap_or_default();
            if id.starts_with('m') {
                self.got.push((id.clone(), data));
            }
            self.last_id = id;
        }
        self.serial = Some(frame["channelSerial"].as_str().unwrap().to_owned());
    }
}

/// `MessagePack`, with bytes as an array of numbers.
fn unpacked(rest: &mut &[u8]) -> Value {
    let marker = bytes(rest, 1)[0];
    match marker {
        0x00..=0x7F => marker.into(),
        0x80..=0x8F => map(rest, usize::from(marker & 0xF)),
        0x90..=0x9F => array(rest, usize::from(marker & 0xF)),
        0xA0..=0xBF => text(rest, usize::from(marker & 0x1F)),
        0xC2 | 0xC3 => (marker == 0xC3).into(),
        0xC4..=0xC6 => {
            let size = number(rest, 1 << (marker - 0xC4));
            bytes(rest, size).into()
        }
        0xCF => number(rest, 8).into(),
        0xD9..=0xDB => {
            let size = number(rest, 1 << (marker - 0xD9));
            text(rest, size)
        }
        0xDC => {
            let size = number(rest, 2);
            array(rest, size)
        }
        0xDE => {
            let size = number(rest, 2);
            map(rest, size)
        }
        other => panic!("what is {other:#x}?"),
    }
}

fn bytes<'a>(rest: &mut &'a [u8], size: usize) -> &'a [u8] {
    let (own, behind) = rest.split_at(size);
    *rest = behind;
    own
}

fn number(rest: &mut &[u8], size: usize) -> usize {
    bytes(rest, size).iter().fold(0, |number, &byte| number << 8 | usize::from(byte))
}

fn text(rest: &mut &[u8], size: usize) -> Value {
    String::from_utf8(bytes(rest, size).to_vec()).unwrap().into()
}

fn array(rest: &mut &[u8], size: usize) -> Value {
    (0..size).map(|_| unpacked(rest)).collect()
}

fn map(rest: &mut &[u8], size: usize) -> Value {
    let entry = |_| (unpacked(rest).as_str().unwrap().to_owned(), unpacked(rest));
    Value::Object((0..size).map(entry).collect::<Map<_, _>>())
}

/// What a client asks for.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "independent wishes, not the states of one")]
struct Wish {
    delta: bool,
    filtered: bool,
    echo: bool,
    meta: bool,
    resume: bool,
}

#[derive(Debug, Clone)]
enum Step {
    /// By one of the clients: what form, how much of the document is other, whether the filter is for it.
    Publish {
        publisher: usize,
        form: usize,
        other: usize,
        wanted: bool,
    },
    /// An entry of another kind.
    Other(Kind),
    Attach(usize, Wish),
    Detach(usize),
    Room(usize, Option<usize>),
    Turn,
}

fn wish() -> impl Strategy<Value = Wish> {
    (any::<[bool; 5]>()).prop_map(|[delta, filtered, echo, meta, resume]| Wish { delta, filtered, echo, meta, resume })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0usize..4, 0usize..8, 0usize..60, any::<bool>())
            .prop_map(|(publisher, form, other, wanted)| Step::Publish { publisher, form, other, wanted }),
        1 => prop_oneof![Just(Kind::Presence), Just(Kind::Meta), Just(Kind::Annotation)].prop_map(Step::Other),
        2 => (0usize..4, wish()).prop_map(|(client, wish)| Step::Attach(client, wish)),
        1 => (0usize..4).prop_map(Step::Detach),
        1 => (0usize..4, prop::option::of(0usize..900)).prop_map(|(client, room)| Step::Room(client, room)),
        4 => Just(Step::Turn),
    ]
}

/// Four clients of one channel, two on each wire.
struct Scene {
    world: World,
    handles: Vec<Handle>,
    clients: Vec<Client>,
    wishes: [Option<Wish>; 4],
    /// Who has left: with which wish, and how much had been sent by then.
    away: [Option<(Wish, usize)>; 4],
    /// What each is to decode.
    expected: [Vec<Sent>; 4],
    sent: Vec<Sent>,
    filter: Arc<Filter>,
}

impl Scene {
    fn new() -> Self {
        let mut world = World::new();
        world.hub.partitions().add_state_topic("state");
        world.hub.assign("state", [2; 16], 0, 0).unwrap();
        let handles: Vec<Handle> = (0..4).map(|slot| 1 << 32 | slot).collect();
        let mut clients = Vec::new();
        for (slot, &handle) in handles.iter().enumerate() {
            let wire = if slot % 2 == 0 { Wire::Json } else { Wire::Msgpack };
            let connection_id = format!("conn{slot}").into();
            world.shard.register(NewConnection { handle, wire, connection_id, heartbeat_frames: false }, 0);
            clients.push(Client { wire: Some(wire), ..Client::default() });
        }
        let filter = Arc::new(Filter::compile("headers.wanted").unwrap());
        Self {
            world,
            handles,
            clients,
            wishes: [None; 4],
            away: [None; 4],
            expected: Default::default(),
            sent: Vec::new(),
            filter,
        }
    }

    fn publish(&mut self, publisher: usize, form: usize, other: usize, wanted: bool) {
        let id = format!("m{}", self.sent.len());
        let document = "a goal for the visitors, who lead by two; ".repeat(8);
        let body = format!("{}{}", &document[other..], &document[..other]);
        let json = format!("{{\"text\":\"{body}\"}}");
        let (form, data, encoding) = match form {
            0 | 1 => ("text", body.as_bytes(), None),
            2 | 3 => ("text", json.as_bytes(), Some("json")),
            4 => ("binary", body.as_bytes(), None),
            5 => ("binary", body.as_bytes(), Some("utf-8/cipher+aes-256-cbc")),
            6 => ("text", body.as_bytes(), Some("json")), // it is none
            _ => ("none", &b""[..], None),
        };
        let extras = format!("{{\"headers\":{{\"wanted\":{wanted}}}}}");
        let connection = format!("conn{publisher}");
        let said = [
            ("fanout.type", Some(form)),
            ("fanout.id", Some(&*id)),
            ("fanout.encoding", encoding),
            ("fanout.connectionId", Some(&*connection)),
            ("fanout.extras", Some(&*extras)),
        ];
        let headers: Vec<_> =
            said.iter().map(|(name, value)| Header { name, value: value.map(str::as_bytes) }).collect();
        let record = Record {
            topic: "t",
            partition: 0,
            offset: self.world.next,
            epoch: 0,
            timestamp: 0,
            key: Some(CHANNEL.as_bytes()),
            value: Some(data),
            headers: &headers,
        };
        self.world.next += 1;
        self.world.hub.ingest([(record, Routing::Rules)].into_iter(), 0);
        let sent = Sent { id, publisher, wanted, payload: (form != "none").then(|| data.to_vec()) };
        for (client, wish) in self.wishes.iter().enumerate() {
            if wish.is_some_and(|wish| is_for(&sent, client, wish)) {
                self.expected[client].push(sent.clone());
            }
        }
        self.sent.push(sent);
    }

    fn other(&mut self, kind: Kind) {
        let state = self.world.hub.partitions().find("state", 0).unwrap();
        let fields = [None; FIELDS];
        let place = (state.next(), 0);
        state.advance(state.next() + 1, 0);
        let entry = Message::new(state, place, (kind, 0), Form::Text, b"something else", Some(&fields));
        self.world.hub.channel(CHANNEL, 0).append(entry);
    }

    /// A client leaves, having read all that was for it.
    fn detach(&mut self, at: usize) {
        self.free(at);
        self.turn();
        if let Some(wish) = self.wishes[at].take() {
            self.world.shard.detach(self.handles[at], 1, None);
            self.away[at] = Some((wish, self.sent.len()));
        }
    }

    /// A client attaches, or does so again: live, or where it was, and then for the same messages as before.
    fn attach(&mut self, at: usize, mut wish: Wish) {
        self.free(at);
        self.turn();
        let before = self.away[at].take().or(self.wishes[at].map(|wish| (wish, self.sent.len())));
        let before = before.filter(|_| wish.resume && self.clients[at].serial.is_some());
        let serial = before.and_then(|_| self.clients[at].serial.clone());
        if let Some((old, since)) = before {
            wish = Wish { filtered: old.filtered, echo: old.echo, ..wish };
            let missed = self.sent[since..].iter().filter(|sent| is_for(sent, at, wish));
            self.expected[at].extend(missed.cloned());
        }
        let plan = self.world.hub.locate(CHANNEL, serial.as_deref(), Start::Live, 0);
        self.clients[at].serial = Some(plan.serial.clone());
        let new = NewAttachment {
            number: 1,
            plan,
            spelling: wish.filtered.then(|| "[filter]c".into()),
            kinds: if wish.meta { Kinds::ALL } else { Kinds::MESSAGES },
            echo: wish.echo,
            delta: wish.delta,
            filter: wish.filtered.then(|| Arc::clone(&self.filter)),
            subscription: None,
        };
        self.world.shard.attach(self.handles[at], new, ATTACHED.into());
        self.wishes[at] = Some(wish);
    }

    fn turn(&mut self) {
        self.world.turn();
        for (client, handle) in self.clients.iter_mut().zip(&self.handles) {
            client.read(self.world.taken.get(handle).map_or(&[], |bytes| bytes));
        }
    }

    /// A client's socket takes everything.
    fn free(&mut self, at: usize) {
        self.world.room.remove(&self.handles[at]);
        self.world.shard.writable(self.handles[at]);
    }

    fn finish(&mut self) {
        (0..4).for_each(|at| self.free(at));
        self.turn();
        for (client, expected) in self.clients.iter().zip(&self.expected) {
            let expected: Vec<_> = expected.iter().map(|sent| (sent.id.clone(), sent.payload.clone())).collect();
            assert_eq!(client.got, expected, "{:?}", client.wire);
        }
    }
}

/// Whether a client that asks so is given a message.
fn is_for(sent: &Sent, client: usize, wish: Wish) -> bool {
    (wish.echo || sent.publisher != client) && (!wish.filtered || sent.wanted)
}

fn attachment(plan: Plan, delta: bool, filter: Option<Arc<Filter>>) -> NewAttachment {
    NewAttachment { delta, filter, ..NewAttachment::plain(1, plan) }
}

const PLAIN: Wish = Wish { delta: false, filtered: false, echo: true, meta: false, resume: false };

#[test]
fn the_first_is_whole_and_then_come_deltas_with_frames_of_their_own() {
    let mut scene = Scene::new();
    for client in [0, 1, 2] {
        scene.attach(client, Wish { delta: client < 2, ..PLAIN });
    }
    (0..5).for_each(|other| scene.publish(3, 0, other, true));
    scene.finish();
    assert_eq!(scene.clients.iter().map(|client| client.deltas).collect::<Vec<_>>(), [4, 4, 0, 0]);
    let before = scene.world.hub.stats.frames.get();
    for client in [0, 1] {
        scene.attach(client, Wish { delta: true, resume: true, ..PLAIN });
    }
    scene.publish(3, 0, 6, true);
    scene.finish();
    assert_eq!(scene.clients[0].deltas, 4, "whole after attaching again");
    assert_eq!(scene.world.hub.stats.frames.get() - before, 3);
}

#[test]
fn who_is_in_step_shares_a_frame() {
    let mut world = World::new();
    let handles: Vec<Handle> = (0..50).map(|slot| world.connect(slot)).collect();
    for &handle in &handles {
        let plan = world.hub.locate(CHANNEL, None, Start::Live, 0);
        world.shard.attach(handle, attachment(plan, true, None), ATTACHED.into());
    }
    let document = "a long text of which a little is other each time ".repeat(4);
    for turn in 1..4 {
        world.publish(CHANNEL, &format!("{document}{turn}"));
        world.turn();
        assert_eq!(world.hub.stats.frames.get(), turn);
    }
    let texts: Vec<_> = handles.iter().map(|&handle| world.text(handle)).collect();
    assert!(texts.iter().all(|text| *text == texts[0] && text.matches("vcdiff/base64").count() == 2));
}

#[test]
fn what_was_not_given_is_nothing_to_go_on_from() {
    let mut scene = Scene::new();
    scene.attach(0, Wish { delta: true, echo: false, ..PLAIN });
    scene.attach(1, Wish { delta: true, filtered: true, ..PLAIN });
    for (other, (publisher, wanted)) in [(3, true), (3, true), (0, false), (3, true), (3, true)].into_iter().enumerate()
    {
        scene.publish(publisher, 0, other, wanted);
    }
    scene.finish();
    assert_eq!(scene.clients[0].deltas, 2);
    assert_eq!(scene.clients[1].deltas, 2);
}

#[test]
fn other_kinds_leave_the_filter_and_the_deltas() {
    let mut world = World::new();
    let handle = world.connect(0);
    let filter = Arc::new(Filter::compile("name == 'none'").unwrap());
    for (number, filter) in [(1, None), (2, Some(filter))] {
        let plan = world.hub.locate(CHANNEL, None, Start::Live, 0);
        world.shard.attach(handle, NewAttachment { number, ..attachment(plan, true, filter) }, ATTACHED.into());
        let plan = world.hub.locate(CHANNEL, None, Start::Live, 0);
        world.shard.regrant(handle, NewAttachment { number, ..attachment(plan, false, None) });
    }
    let document = "a long text of which a little is other each time ".repeat(4);
    for turn in 0..3 {
        world.publish(CHANNEL, &format!("{document}{turn}"));
        world.turn();
    }
    assert_eq!(world.values(handle).len(), 3, "of one attachment alone");
    assert_eq!(world.text(handle).matches("vcdiff/base64").count(), 2);
}

#[test]
fn a_filter_that_nothing_passes_holds_nobody_up() {
    let mut world = World::new();
    let (filtered, other) = (world.connect(0), world.connect(1));
    (0..20_000).for_each(|n| world.publish(CHANNEL, &n.to_string()));
    let filter = Arc::new(Filter::compile("name == 'none'").unwrap());
    let plan = world.hub.locate(CHANNEL, Some(&World::new().hub.position(CHANNEL, 0)), Start::Live, 0);
    world.shard.attach(filtered, attachment(plan, false, Some(filter)), ATTACHED.into());
    world.attach(other, 1, CHANNEL);
    let mut passes = 0;
    world.publish(CHANNEL, "news");
    while world.values(other).is_empty() {
        world.pass();
        passes += 1;
        assert!(passes < 3, "another is given its news meanwhile");
    }
    while world.shard.has_more() {
        world.pass();
        passes += 1;
    }
    assert!(passes > 20_000 * FILTER_NS as usize / (2 * PASS_NS as usize), "{passes}");
    assert!(world.values(filtered).is_empty());
    let cursors = &world.shard.connections[slot(filtered)].cursors;
    assert_eq!(cursors[0].at, 20_001, "it stands behind everything");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn everything_decodes_whatever_happens(steps in prop::collection::vec(step(), 1..80)) {
        let mut scene = Scene::new();
        for step in steps {
            match step {
                Step::Publish { publisher, form, other, wanted } => scene.publish(publisher, form, other, wanted),
                Step::Other(kind) => scene.other(kind),
                Step::Attach(client, wish) => scene.attach(client, wish),
                Step::Detach(client) => scene.detach(client),
                Step::Room(client, None) => scene.free(client),
                Step::Room(client, Some(room)) => drop(scene.world.room.insert(scene.handles[client], room)),
                Step::Turn => scene.turn(),
            }
        }
        scene.finish();
    }
}
