use super::*;
use crate::hub::{Hub, MembersPage, MembersQuery, Routing, Settings};
use crate::limits::{MEMBERS_SCANNED, PRESENCE_SHARE};
use crate::record::{Header, Record};
use crate::wire::Wire;

/// A node, and where its presence topic stands.
pub(crate) struct World {
    pub(crate) hub: Hub,
    next: i64,
}

/// One record of the presence topic.
pub(crate) struct Said<'a> {
    pub(crate) channel: &'a str,
    pub(crate) who: (&'a str, &'a str),
    pub(crate) id: &'a str,
    pub(crate) data: Option<&'a str>,
    pub(crate) node: &'a str,
    pub(crate) generation: u64,
    pub(crate) timestamp: i64,
}

pub(crate) fn said<'a>(connection_id: &'a str, id: &'a str, data: Option<&'a str>) -> Said<'a> {
    Said { channel: "c", who: (connection_id, "client"), id, data, node: "n1", generation: 0, timestamp: 5 }
}

impl World {
    pub(crate) fn new(history_bytes: usize) -> Self {
        let hub = Hub::new(Settings { key: [3; 16], history_ms: 1000, history_bytes });
        hub.presence_topic("presence", 0);
        hub.assign("presence", [1; 16], 0, 0).unwrap();
        Self { hub, next: 0 }
    }

    pub(crate) fn say(&mut self, said: &Said<'_>) {
        let key = serde_json::to_vec(&[said.channel, said.who.0, said.who.1]).unwrap();
        let kind = if said.data.is_some_and(|data| !data.is_empty()) { "text" } else { "none" };
        let generation = said.generation.to_string();
        let headers = [
            ("fanout.id", said.id),
            ("fanout.node", said.node),
            ("fanout.generation", &generation),
            ("fanout.type", kind),
        ];
        let headers = headers.map(|(name, value)| Header { name, value: Some(value.as_bytes()) });
        self.record(&key, said.data.map(str::as_bytes), &headers, said.timestamp);
    }

    fn record(&mut self, key: &[u8], value: Option<&[u8]>, headers: &[Header<'_>], timestamp: i64) {
        let (offset, key) = (self.next, Some(key));
        let record = Record { topic: "presence", partition: 0, offset, epoch: 0, timestamp, key, value, headers };
        self.next += 1;
        assert_eq!(self.hub.ingest([(record, Routing::Rules)].into_iter(), 0), 0);
    }

    /// The channel's events so far, as clients see them: action and id.
    fn events(&self) -> Vec<(u64, String)> {
        let entries = self.hub.channel("c", 0).entries(Kind::Presence);
        entries.iter().map(|entry| (item(entry)["action"].as_u64().unwrap(), entry.id())).collect()
    }

    fn members(&self) -> Vec<String> {
        let query = MembersQuery { client_id: None, connection_id: None, cursor: None, limit: 100 };
        self.hub.members("c", &query).unwrap().members.iter().map(Message::id).collect()
    }

    fn counter(&self, name: &str) -> u64 {
        let gauges = self.hub.gauges();
        self.hub.stats.all().iter().chain(&gauges).find(|(other, _)| *other == name).unwrap().1
    }
}

fn item(entry: &Message) -> serde_json::Value {
    serde_json::from_slice(entry.encoded(Wire::Json).0).unwrap()
}

#[test]
fn who_enters_is_there_until_it_leaves() {
    let mut world = World::new(1 << 20);
    world.say(&said("a", "a:0:0", Some("hello")));
    world.say(&said("b", "b:0:0", Some("")));
    assert_eq!(world.members(), ["a:0:0", "b:0:0"]);
    world.say(&said("a", "a:1:0", None));
    assert_eq!(world.members(), ["b:0:0"]);
    let events = [(2, "a:0:0"), (2, "b:0:0"), (3, "a:1:0")];
    assert_eq!(world.events(), events.map(|(action, id)| (action, id.to_owned())));
}

#[test]
fn an_event_is_an_item_with_all_that_its_client_said() {
    let mut world = World::new(1 << 20);
    let headers = [
        ("fanout.id", "a:0:0"),
        ("fanout.type", "text"),
        ("fanout.encoding", "json"),
        ("fanout.extras", r#"{"headers":{}}"#),
        ("fanout.action", "update"),
    ];
    let headers = headers.map(|(name, value)| Header { name, value: Some(value.as_bytes()) });
    world.record(br#"["c","a","me"]"#, Some(br#"{"x":1}"#), &headers, 7);
    let expected = serde_json::json!({
        "action": 2, "id": "a:0:0", "timestamp": 7, "clientId": "me", "connectionId": "a", "data": "{\"x\":1}",
        "encoding": "json", "extras": {"headers": {}}
    });
    assert_eq!(item(&world.hub.channel("c", 0).entries(Kind::Presence)[0]), expected);
    let query = MembersQuery { client_id: None, connection_id: None, cursor: None, limit: 1 };
    let member = &world.hub.members("c", &query).unwrap().members[0];
    assert_eq!(item(member)["action"], 1);
    let packed = member.encoded(Wire::Msgpack).0.to_vec();
    assert_eq!(&packed[..9], b"\x88\xA6action\x01", "eight fields, the action first");
}

#[test]
fn who_is_there_already_is_updated_and_the_same_again_is_no_news() {
    let mut world = World::new(1 << 20);
    for id in ["a:0:0", "a:0:0", "a:2:0", "a:1:0"] {
        world.say(&said("a", id, Some("x")));
    }
    assert_eq!(world.events(), [(2, "a:0:0".to_owned()), (4, "a:2:0".to_owned())]);
    assert_eq!(world.members(), ["a:2:0"]);
}

#[test]
fn a_leave_of_somebody_absent_or_older_than_the_member_is_no_news() {
    let mut world = World::new(1 << 20);
    world.say(&said("a", "a:0:0", None));
    world.say(&said("a", "a:5:0", Some("x")));
    world.say(&said("a", "a:4:0", None));
    world.say(&Said { timestamp: 4, ..said("a", "gone:x:0", None) });
    assert_eq!(world.events(), [(2, "a:5:0".to_owned())]);
    world.say(&Said { timestamp: 5, ..said("a", "gone:x:0", None) });
    assert_eq!(world.events()[1], (3, "gone:x:0".to_owned()));
}

#[test]
fn who_leaves_without_a_word_shows_what_it_showed_last() {
    let mut world = World::new(1 << 20);
    let headers = [("fanout.id", "a:0:0"), ("fanout.type", "binary"), ("fanout.encoding", "cipher")];
    let headers = headers.map(|(name, value)| Header { name, value: Some(value.as_bytes()) });
    world.record(br#"["c","a","client"]"#, Some(b"\x01\x02"), &headers, 5);
    world.say(&said("a", "a:1:0", None));
    world.say(&said("a", "a:2:0", Some("x")));
    let headers = [("fanout.id", "a:3:0"), ("fanout.type", "text"), ("fanout.data", "bye")];
    let headers = headers.map(|(name, value)| Header { name, value: Some(value.as_bytes()) });
    world.record(br#"["c","a","client"]"#, None, &headers, 5);
    let left: Vec<_> = world.hub.channel("c", 0).entries(Kind::Presence).iter().map(item).collect();
    assert_eq!((&left[1]["data"], &left[1]["encoding"]), (&"AQI=".into(), &"cipher/base64".into()));
    assert_eq!(left[3]["data"], "bye");
}

#[test]
fn an_id_that_clients_could_not_read_is_replaced() {
    let mut world = World::new(1 << 20);
    world.say(&said("a", "a:0", Some("x")));
    assert_eq!(world.members(), ["presence:0:0"]);
}

#[test]
fn records_that_name_nobody_are_counted() {
    let mut world = World::new(1 << 20);
    let keys: [&[u8]; 7] =
        [b"", b"c", b"[]", br#"["c","a"]"#, br#"["","a","b"]"#, br#"["c","","b"]"#, br#"["c","a\u0000","b"]"#];
    for key in keys {
        world.record(key, Some(b"x"), &[], 5);
    }
    assert_eq!(world.counter("records_unroutable"), keys.len() as u64);
    assert!(world.members().is_empty());
}

#[test]
fn what_was_before_the_node_began_is_no_news() {
    let mut world = World::new(1 << 20);
    world.hub.presence_topic("presence", 1010);
    world.say(&Said { timestamp: 9, ..said("a", "a:0:0", Some("x")) });
    world.say(&Said { timestamp: 10, ..said("b", "b:0:0", Some("x")) });
    assert_eq!((world.members().len(), world.events().len()), (2, 1));
}

#[test]
fn a_member_is_its_nodes_who_said_it_last() {
    let mut world = World::new(1 << 20);
    world.say(&said("a", "a:0:0", Some("x")));
    world.say(&said("b", "b:0:0", Some("x")));
    world.say(&Said { node: "n2", ..said("a", "a:0:0", Some("x")) });
    let mut nodes = world.hub.presence_nodes();
    nodes.sort();
    assert_eq!(nodes, [("n1".into(), 1), ("n2".into(), 1)]);
    assert_eq!(world.hub.members_of("n2", 10), [("c".into(), key("a", "client").into())]);
    assert_eq!(world.hub.member("c", "a", "client"), Some(("a:0:0".into(), "n2".into(), 0)));
    assert_eq!(world.events().len(), 2, "no news to anybody");
    assert_eq!(world.hub.presence_size("c"), (2, 14));
    world.say(&Said { node: "n2", ..said("a", "a:1:0", None) });
    assert_eq!(world.hub.presence_nodes(), [("n1".into(), 1)]);
}

/// What one transport of a connection had said of its member.
fn by<'a>(node: &'a str, generation: u64, id: &'a str, data: Option<&'a str>) -> Said<'a> {
    Said { node, generation, ..said("a", id, data) }
}

#[test]
fn what_an_earlier_transport_said_changes_nothing_when_it_comes_late() {
    let mut world = World::new(1 << 20);
    let holder = |world: &World| world.hub.member("c", "a", "client").map(|found| (found.1.to_string(), found.2));
    world.say(&by("n1", 0, "a:0:0", Some("x")));
    world.say(&by("n2", 1, "a:0:0", Some("x")));
    assert_eq!(holder(&world), Some(("n2".into(), 1)));
    for late in ["a:0:0", "a:9:0"] {
        world.say(&by("n1", 0, late, Some("y")));
    }
    world.say(&by("n1", 0, "gone:x:0", None));
    world.say(&by("n1", 0, "a:9:1", None));
    assert_eq!((holder(&world), world.events().len()), (Some(("n2".into(), 1)), 1));
    world.say(&by("n2", 1, "gone:y:0", None));
    assert_eq!((holder(&world), world.events().len()), (None, 2));
    world.say(&by("n1", 0, "a:0:0", Some("x")));
    assert_eq!((holder(&world), world.events().len()), (None, 2), "not even when nobody is there any more");
    assert_eq!(world.counter("presence_late"), 5);
    world.say(&by("n2", 1, "a:0:0", Some("x")));
    assert_eq!(holder(&world), Some(("n2".into(), 1)), "a node that was taken for gone finds room for its members");
}

#[test]
fn a_member_moves_on_with_its_connection_though_the_set_knows_something_newer_of_it() {
    let mut world = World::new(1 << 20);
    world.say(&by("n1", 0, "a:5:0", Some("x")));
    world.say(&by("n2", 1, "a:3:0", Some("old")));
    world.say(&by("n3", 0, "a:4:0", Some("old")));
    assert_eq!(world.hub.member("c", "a", "client"), Some(("a:5:0".into(), "n2".into(), 1)));
    assert_eq!(world.hub.presence_nodes(), [("n2".into(), 1)]);
    world.say(&by("n2", 2, "a:4:0", None));
    assert_eq!((world.members().len(), world.events().len()), (1, 1), "a leave before that is not one");
    world.say(&by("n2", 3, "a:5:0", Some("x")));
    assert_eq!(world.hub.member("c", "a", "client"), Some(("a:5:0".into(), "n2".into(), 3)));
}

#[test]
fn presence_takes_so_much_memory_and_gives_it_back() {
    let bytes = 1 << 20;
    let mut world = World::new(bytes);
    for number in 0..10_000 {
        world.say(&said(&number.to_string(), "x:0:0", Some("x")));
    }
    let held = world.counter("presence_bytes") as usize;
    assert!(world.counter("members_refused") > 0);
    assert!((bytes / PRESENCE_SHARE - 1000..=bytes / PRESENCE_SHARE).contains(&held), "{held}");
    assert!(world.counter("history_bytes") as usize <= bytes);
    for member in world.members() {
        assert_eq!(member, "x:0:0");
    }
    for number in 0..10_000 {
        world.say(&said(&number.to_string(), "x:1:0", None));
    }
    assert_eq!(world.counter("presence_bytes"), 0);
    world.hub.sweep(10_000);
    world.hub.sweep(10_000_000);
    assert_eq!(world.counter("history_bytes"), 0);
}

#[test]
fn a_channel_with_somebody_on_it_is_not_forgotten() {
    let mut world = World::new(1 << 20);
    world.say(&said("a", "a:0:0", Some("x")));
    world.hub.sweep(10_000);
    world.hub.sweep(10_000_000);
    assert_eq!((world.members().len(), world.events().len()), (1, 0));
    assert!(world.hub.locate("c", None, crate::channel::Start::Live, 0).has_presence);
    assert!(!world.hub.locate("d", None, crate::channel::Start::Live, 0).has_presence);
}

#[test]
fn pages_join_and_are_of_whom_they_were_asked_for() {
    let mut world = World::new(64 << 20);
    let count = MEMBERS_SCANNED + 500;
    for number in 0..count {
        let connection_id = format!("c{:05}", number / 2);
        let client = if number == count - 1 { "last" } else { ["even", "odd"][number % 2] };
        world.say(&Said { who: (&connection_id, client), ..said("", "x:0:0", Some("x")) });
    }
    let all = |client_id, connection_id| {
        let mut cursor: Option<String> = None;
        let (mut found, mut pages) = (0, 0);
        loop {
            let query = MembersQuery { client_id, connection_id, cursor: cursor.as_deref(), limit: 700 };
            let MembersPage { members: page, cursor: more } = world.hub.members("c", &query).unwrap();
            assert!(page.len() <= 700);
            found += page.len();
            pages += 1;
            cursor = more;
            if cursor.is_none() {
                return (found, pages);
            }
        }
    };
    assert_eq!(all(None, None), (count, count.div_ceil(700)));
    assert_eq!(all(None, Some("c00007")), (2, 1));
    assert_eq!(all(Some("odd"), Some("c00007")), (1, 1));
    assert_eq!(all(Some("last"), None), (1, 2), "a page does not look at everybody");
    assert_eq!(all(Some("nobody"), Some("c00007")), (0, 1));
    for cursor in ["!", "/w"] {
        let query = MembersQuery { client_id: None, connection_id: None, cursor: Some(cursor), limit: 1 };
        assert!(world.hub.members("c", &query).is_none(), "{cursor}");
    }
}
