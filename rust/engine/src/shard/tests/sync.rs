//! Whoever comes is given who is present, whatever happens meanwhile.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::limits::{SYNC_BYTES, SYNC_MEMBERS};

/// What a client knows of who is present, by the protocol's rules.
#[derive(Default)]
struct Client {
    members: BTreeMap<String, serde_json::Value>,
    /// Members known before the set began to come, and not seen in it so far.
    residue: Option<Vec<String>>,
    pages: usize,
    syncs: Vec<String>,
}

impl Client {
    fn hear(&mut self, frame: &serde_json::Value) {
        let items = frame["presence"].as_array().map_or(&[][..], |items| items);
        if frame["action"] == 16 {
            let (id, cursor) = frame["channelSerial"].as_str().unwrap().split_once(':').unwrap();
            assert!(!id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
            if self.syncs.last().is_none_or(|last| last != id) {
                self.syncs.push(id.to_owned());
                self.residue = Some(self.members.keys().cloned().collect());
            }
            self.pages += 1;
            self.put_all(items);
            if cursor.is_empty() {
                for key in self.residue.take().unwrap() {
                    self.members.remove(&key);
                }
                self.members.retain(|_, item| item["action"] != 0);
            }
        } else {
            self.put_all(items);
        }
    }

    fn put_all(&mut self, items: &[serde_json::Value]) {
        for item in items {
            self.put(item);
        }
    }

    fn put(&mut self, item: &serde_json::Value) {
        let key = format!("{} {}", item["connectionId"], item["clientId"]);
        if let Some(residue) = &mut self.residue {
            residue.retain(|other| *other != key);
        }
        if self.members.get(&key).is_some_and(|old| !is_newer(item, old)) {
            return;
        }
        let mut item = item.clone();
        match (item["action"].as_u64().unwrap(), &self.residue) {
            (3, None) => drop(self.members.remove(&key)),
            (3, Some(_)) => {
                item["action"] = 0.into(); // remembered, so that an older page does not bring it back
                self.members.insert(key, item);
            }
            _ => drop(self.members.insert(key, item)),
        }
    }
}

fn is_newer(new: &serde_json::Value, old: &serde_json::Value) -> bool {
    let said = |item: &serde_json::Value| {
        let rest = item["id"].as_str().unwrap().strip_prefix(item["connectionId"].as_str().unwrap())?.to_owned();
        let mut numbers = rest.trim_start_matches(':').split(':').map(|number| number.parse::<u64>().unwrap());
        Some((numbers.next()?, numbers.next()?))
    };
    match (said(new), said(old)) {
        (Some(new), Some(old)) => new > old,
        _ => new["timestamp"].as_i64() >= old["timestamp"].as_i64(),
    }
}

/// A world with a presence topic, and what was said in it so far.
struct Place {
    world: World,
    next: i64,
}

impl Place {
    fn new() -> Self {
        let world = World::with(256 << 20);
        world.hub.presence_topic("presence", 0);
        world.hub.assign("presence", [7; 16], 0, 0).unwrap();
        Self { world, next: 0 }
    }

    /// A member enters or is updated, leaves, or is made to leave, all in the same ms.
    fn say(&mut self, member: usize, action: &str) {
        let connection_id = format!("m{member:05}");
        let id = match action {
            "gone" => format!("gone:{}:0", self.next),
            _ => format!("{connection_id}:{}:0", self.next),
        };
        let headers = [("fanout.id", &*id), ("fanout.type", "text")];
        let headers = headers.map(|(name, value)| Header { name, value: Some(value.as_bytes()) });
        let key = serde_json::to_vec(&["c", &connection_id, "client"]).unwrap();
        let record = Record {
            topic: "presence",
            partition: 0,
            offset: self.next,
            epoch: 0,
            timestamp: 5,
            key: Some(&key),
            value: (action == "enter").then_some(b"shown"),
            headers: &headers,
        };
        self.next += 1;
        self.world.hub.ingest([(record, Routing::Rules)].into_iter(), 0);
    }

    /// What a client knows that has read everything that its socket took.
    fn client(&self, handle: Handle) -> Client {
        let mut client = Client::default();
        let mut rest = self.world.taken.get(&handle).map_or(&[][..], |bytes| bytes);
        while let [_, length, ..] = rest {
            let (begin, length) = match length {
                126 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
                127 => (10, u64::from_be_bytes(rest[2..10].try_into().unwrap()) as usize),
                _ => (2, usize::from(*length)),
            };
            let frame = &rest[begin..begin + length];
            rest = &rest[begin + length..];
            if frame.starts_with(b"{") {
                assert!(length < SYNC_BYTES + 1000);
                let frame = serde_json::from_slice(frame).unwrap();
                client.hear(&frame);
            }
        }
        client
    }

    /// Who is present.
    fn members(&self) -> Vec<String> {
        self.world
            .hub
            .channel("c", 0)
            .with_members(|members| members.behind(None).map(|(_, member)| member.message.id()).collect())
    }

    fn attach(&mut self, handle: Handle) {
        let plan = self.world.hub.locate("c", None, Start::Live, 0);
        let new = NewAttachment::plain(1, plan);
        // A whole WebSocket message, as what is read back is taken apart.
        self.world.shard.attach(handle, new, b"\x81\x02ok"[..].into());
    }
}

fn ids(client: &Client) -> Vec<String> {
    client.members.values().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_large_set_comes_in_pages_and_everybody_once() {
    let mut place = Place::new();
    let count = 2 * SYNC_MEMBERS + 10;
    (0..count).for_each(|member| place.say(member, "enter"));
    let handle = place.world.connect(0);
    place.attach(handle);
    place.world.turn();
    let client = place.client(handle);
    assert_eq!((client.members.len(), client.pages, client.syncs.len()), (count, 3, 1));
    assert_eq!(place.world.text(handle).matches("\"clientId\"").count(), count);
    assert_eq!(place.world.hub.stats.sync_members.get(), count as u64);
    place.say(0, "leave");
    place.world.turn();
    assert_eq!(ids(&place.client(handle)), place.members());
}

#[test]
fn who_is_given_no_presence_is_given_no_set_and_an_empty_channel_has_none() {
    let mut place = Place::new();
    let handles = [0, 1].map(|slot| place.world.connect(slot));
    place.world.attach_as(handles[0], 1, "empty", "empty", Kinds::ALL, true);
    place.say(0, "enter");
    place.world.attach_as(handles[1], 1, "c", "c", Kinds::MESSAGES, true);
    place.world.turn();
    assert!(handles.iter().all(|&handle| !place.world.text(handle).contains("\"action\":16")));
    place.world.shard.sync(handles[1], 1);
    place.world.shard.sync(handles[1], 2);
    place.world.turn();
    assert!(!place.world.text(handles[1]).contains("\"action\":16"));
}

#[test]
fn a_set_that_has_become_empty_is_brought_to_its_end() {
    let mut place = Place::new();
    place.say(0, "enter");
    let plan = place.world.hub.locate("c", None, Start::Live, 0);
    let handle = place.world.connect(0);
    place.say(0, "leave");
    let new = NewAttachment::plain(1, plan);
    place.world.shard.attach(handle, new, b"\x81\x02ok"[..].into());
    place.world.turn();
    let client = place.client(handle);
    assert_eq!((client.members.len(), client.pages), (0, 1));
    assert!(client.residue.is_none());
}

#[test]
fn a_set_that_is_asked_for_again_takes_the_place_of_the_one_under_way() {
    let mut place = Place::new();
    (0..3 * SYNC_MEMBERS).for_each(|member| place.say(member, "enter"));
    let handle = place.world.connect(0);
    place.world.room.insert(handle, 1000);
    place.attach(handle);
    place.world.turn();
    place.world.shard.sync(handle, 1);
    place.world.room.remove(&handle);
    place.world.shard.writable(handle);
    place.world.turn();
    let client = place.client(handle);
    assert_eq!((client.syncs.len(), ids(&client)), (2, place.members()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Members come, change and go while the set is given over a socket that takes little at a time.
    #[test]
    fn the_set_and_the_events_make_the_set_as_it_is(
        before in prop::collection::vec((0usize..1500, 0usize..4), 0..1500),
        during in prop::collection::vec((0usize..1500, 0usize..4, 0usize..5), 1..300),
        room in 100usize..40_000,
        resync in 0usize..300,
    ) {
        const ACTIONS: [&str; 4] = ["enter", "enter", "leave", "gone"];
        let mut place = Place::new();
        for (member, action) in before {
            place.say(member, ACTIONS[action]);
        }
        let handle = place.world.connect(0);
        place.world.room.insert(handle, 0);
        place.attach(handle);
        for (index, (member, action, turns)) in during.into_iter().enumerate() {
            place.say(member, ACTIONS[action]);
            if index % 7 == 0 {
                place.world.publish("c", "message");
            }
            if index == resync {
                place.world.shard.sync(handle, 1);
            }
            for _ in 0..turns {
                place.world.room.insert(handle, room);
                place.world.shard.writable(handle);
                place.world.pass();
            }
        }
        place.world.room.remove(&handle);
        place.world.shard.writable(handle);
        place.world.turn();
        let client = place.client(handle);
        prop_assert!(client.residue.is_none(), "a set that has begun ends");
        prop_assert_eq!(ids(&client), place.members());
    }
}
