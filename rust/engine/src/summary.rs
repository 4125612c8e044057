//! What the annotations of one message come to (Ably protocol, "Annotations"): made from them in the order of the log, so
//! that every node that has them all comes to the same.
//!
//! A type is `namespace:method.version`; its method says how annotations of it count. Of one of an unknown method there
//! is no summary.
//!
//! | method | create | delete |
//! |---|---|---|
//! | `total.v1` | one more | one less |
//! | `flag.v1` | once for each client | takes the client's back |
//! | `distinct.v1` | once for each client and name | takes that name's back |
//! | `unique.v1` | one name for each client; a newer one takes its place | takes the client's back |
//! | `multiple.v1` | `count` more for the client and name | takes all of the client's for that name back |
//!
//! Names and clients are remembered up to [`SUMMARY_BYTES_MAX`]. A client that is met beyond that is counted and not
//! remembered, and a name ignored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::limits::{SUMMARY_BYTES_MAX, SUMMARY_CLIENTS_SHOWN};

/// The summary of one message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Summary {
    types: BTreeMap<Box<str>, Names>,
    /// Of what is remembered.
    #[serde(skip)]
    bytes: usize,
}

/// By name; methods without names have one, which is empty.
type Names = BTreeMap<Box<str>, Tally>;

/// What one name of one type has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tally {
    /// How much each client contributes.
    #[serde(default, rename = "c", skip_serializing_if = "BTreeMap::is_empty")]
    clients: BTreeMap<Box<str>, u64>,
    /// What clients contribute that are not remembered.
    #[serde(default, rename = "h", skip_serializing_if = "is_zero")]
    hidden: u64,
    /// What nobody in particular contributes.
    #[serde(default, rename = "u", skip_serializing_if = "is_zero")]
    unidentified: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Total,
    Flag,
    Distinct,
    Unique,
    Multiple,
}

impl Method {
    fn of(kind: &str) -> Option<Self> {
        match kind.rsplit_once(':')?.1 {
            "total.v1" => Some(Self::Total),
            "flag.v1" => Some(Self::Flag),
            "distinct.v1" => Some(Self::Distinct),
            "unique.v1" => Some(Self::Unique),
            "multiple.v1" => Some(Self::Multiple),
            _ => None,
        }
    }
}

/// One annotation, as far as it counts.
#[derive(Debug, Clone, Copy)]
pub struct Counted<'a> {
    /// Takes back what was there, instead of adding.
    pub deletes: bool,
    /// `namespace:method.version`.
    pub kind: &'a str,
    /// Empty where there is none.
    pub name: &'a str,
    /// Who annotates.
    pub client: Option<&'a str>,
    /// For `multiple`.
    pub count: u64,
}

impl Summary {
    /// The summary that a text of [`Self::state`] holds. None for any other text.
    pub fn read(state: &str) -> Option<Self> {
        let mut read: Self = serde_json::from_str(state).ok()?;
        let names = read.types.values().flatten().map(|(name, tally)| name.len() + ENTRY_BYTES + tally.bytes());
        read.bytes = read.types.keys().map(|kind| kind.len() + ENTRY_BYTES).sum::<usize>() + names.sum::<usize>();
        Some(read)
    }

    /// Everything, as text: what another node goes on from.
    pub fn state(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers always print")
    }

    /// Takes one annotation in.
    pub fn count(&mut self, new: &Counted<'_>) {
        let Some(method) = Method::of(new.kind) else { return };
        let mut more = if self.types.contains_key(new.kind) { 0 } else { new.kind.len() + ENTRY_BYTES };
        let mut less = 0;
        let room = SUMMARY_BYTES_MAX.saturating_sub(self.bytes + more);
        let names = self.types.entry(new.kind.into()).or_default();
        let name = if matches!(method, Method::Total | Method::Flag) { "" } else { new.name };
        match (method, new.client, new.deletes) {
            (Method::Total, _, false) => more += add(names, name, None, 1, room),
            (Method::Total, _, true) => less += take(names, name, None, 1),
            (Method::Multiple, client, false) => more += add(names, name, client, new.count, room),
            (Method::Multiple, client, true) => less += take(names, name, client, new.count),
            (_, None, _) => {}
            (Method::Unique, client, deletes) => {
                let had: Vec<_> =
                    names.iter().filter(|(_, tally)| tally.has(client)).map(|(name, _)| name.clone()).collect();
                had.iter().filter(|&had| deletes || **had != *name).for_each(|had| less += take(names, had, client, 1));
                if !deletes {
                    more += add_once(names, name, client, room);
                } else if had.is_empty() {
                    less += take(names, name, client, 1); // of one that is not remembered
                }
            }
            (Method::Flag | Method::Distinct, client, false) => more += add_once(names, name, client, room),
            (Method::Flag | Method::Distinct, client, true) => less += take(names, name, client, 1),
        }
        if names.is_empty() {
            self.types.remove(new.kind);
            less += new.kind.len() + ENTRY_BYTES;
        }
        self.bytes = self.bytes + more - less;
    }

    /// What clients are shown, as JSON: of each name the first [`SUMMARY_CLIENTS_SHOWN`] clients, or only `client`.
    pub fn shown(&self, client: Option<&str>) -> Value {
        let mut all = Map::new();
        for (kind, names) in &self.types {
            let Some(method) = Method::of(kind) else { continue };
            let first = names.values().next();
            let shown = match (method, first) {
                (Method::Total, Some(tally)) => json!({"total": tally.total()}),
                (Method::Flag, Some(tally)) => tally.shown(method, client),
                _ => names.iter().map(|(name, tally)| (name.to_string(), tally.shown(method, client))).collect(),
            };
            all.insert(kind.to_string(), shown);
        }
        all.into()
    }

    /// Bytes of what is remembered.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What a name or a client takes beside its text, about.
const ENTRY_BYTES: usize = 24;

impl Tally {
    fn has(&self, client: Option<&str>) -> bool {
        client.is_some_and(|client| self.clients.contains_key(client))
    }

    fn total(&self) -> u64 {
        self.clients.values().fold(self.hidden.saturating_add(self.unidentified), |sum, n| sum.saturating_add(*n))
    }

    fn bytes(&self) -> usize {
        self.clients.keys().map(|client| client.len() + ENTRY_BYTES).sum()
    }

    fn shown(&self, method: Method, only: Option<&str>) -> Value {
        let counts = self.clients.iter().filter(|(client, _)| only.is_none_or(|only| only == &***client));
        let counts: Vec<_> = counts.take(SUMMARY_CLIENTS_SHOWN).collect();
        let clipped = self.hidden > 0 || counts.len() < self.clients.len();
        if method != Method::Multiple {
            let clients: Vec<&str> = counts.iter().map(|(client, _)| &***client).collect();
            return json!({"total": self.total(), "clientIds": clients, "clipped": clipped});
        }
        let clients: Map<String, Value> =
            counts.iter().map(|(client, count)| (client.to_string(), (**count).into())).collect();
        json!({
            "total": self.total(), "clientIds": clients, "totalUnidentified": self.unidentified,
            "totalClientIds": self.clients.len(), "clipped": clipped,
        })
    }
}

fn add_once(names: &mut Names, name: &str, client: Option<&str>, room: usize) -> usize {
    if names.get(name).is_some_and(|tally| tally.has(client)) { 0 } else { add(names, name, client, 1, room) }
}

/// How many bytes more are remembered.
fn add(names: &mut Names, name: &str, client: Option<&str>, count: u64, room: usize) -> usize {
    let mut more = if names.contains_key(name) { 0 } else { name.len() + ENTRY_BYTES };
    if more > room {
        return 0;
    }
    let tally = names.entry(name.into()).or_default();
    let place = match client {
        None => &mut tally.unidentified,
        Some(client) if tally.has(Some(client)) || client.len() + name.len() + 2 * ENTRY_BYTES <= room => {
            tally.clients.entry(client.into()).or_insert_with(|| {
                more += client.len() + ENTRY_BYTES;
                0
            })
        }
        Some(_) => &mut tally.hidden,
    };
    *place = place.saturating_add(count);
    more
}

/// How many bytes less are remembered.
fn take(names: &mut Names, name: &str, client: Option<&str>, count: u64) -> usize {
    let Some(tally) = names.get_mut(name) else { return 0 };
    let mut less = 0;
    match client {
        None => tally.unidentified = tally.unidentified.saturating_sub(count),
        Some(client) if tally.clients.remove(client).is_some() => less += client.len() + ENTRY_BYTES,
        Some(_) => tally.hidden = tally.hidden.saturating_sub(count),
    }
    if tally.total() == 0 {
        less += name.len() + ENTRY_BYTES + tally.bytes();
        names.remove(name);
    }
    less
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counted<'a>(kind: &'a str, name: &'a str, client: &'a str, deletes: bool) -> Counted<'a> {
        Counted { deletes, kind, name, client: (!client.is_empty()).then_some(client), count: 1 }
    }

    fn of(list: &[(&str, &str, &str, bool)]) -> Value {
        let mut summary = Summary::default();
        for &(kind, name, client, deletes) in list {
            summary.count(&counted(kind, name, client, deletes));
        }
        summary.shown(None)
    }

    #[test]
    fn a_total_goes_up_and_down_and_not_below_nothing() {
        let up = ("likes:total.v1", "", "", false);
        let down = ("likes:total.v1", "", "", true);
        assert_eq!(of(&[up, up, down]), json!({"likes:total.v1": {"total": 1}}));
        assert_eq!(of(&[down, up]), json!({"likes:total.v1": {"total": 1}}));
        assert_eq!(of(&[up, down]), json!({}));
    }

    #[test]
    fn a_flag_counts_once_for_each_client() {
        let flag = |client, deletes| ("seen:flag.v1", "", client, deletes);
        let expected = json!({"seen:flag.v1": {"total": 2, "clientIds": ["ann", "bob"], "clipped": false}});
        assert_eq!(of(&[flag("bob", false), flag("bob", false), flag("ann", false)]), expected);
        assert_eq!(of(&[flag("bob", false), flag("bob", true)]), json!({}));
        assert_eq!(of(&[flag("", false)]), json!({}), "nobody in particular has no flag");
    }

    #[test]
    fn distinct_counts_once_for_each_client_and_name() {
        let vote = |name, client, deletes| ("vote:distinct.v1", name, client, deletes);
        let got =
            of(&[vote("a", "bob", false), vote("b", "bob", false), vote("a", "ann", false), vote("b", "bob", true)]);
        assert_eq!(
            got,
            json!({"vote:distinct.v1": {"a": {"total": 2, "clientIds": ["ann", "bob"], "clipped": false}}})
        );
    }

    #[test]
    fn unique_keeps_the_newest_name_of_a_client() {
        let vote = |name, client, deletes| ("vote:unique.v1", name, client, deletes);
        let got = of(&[vote("a", "bob", false), vote("a", "ann", false), vote("b", "bob", false)]);
        let one = |client| json!({"total": 1, "clientIds": [client], "clipped": false});
        assert_eq!(got, json!({"vote:unique.v1": {"a": one("ann"), "b": one("bob")}}));
        assert_eq!(of(&[vote("a", "bob", false), vote("other", "bob", true)]), json!({}));
    }

    #[test]
    fn multiple_adds_up() {
        let mut summary = Summary::default();
        for (client, count) in [(Some("bob"), 2), (Some("bob"), 3), (None, 4)] {
            summary.count(&Counted { deletes: false, kind: "stars:multiple.v1", name: "x", client, count });
        }
        let x = |total: u64, clients: Value, unidentified: u64, ids: usize| {
            json!({"stars:multiple.v1": {"x": {"total": total, "clientIds": clients, "totalUnidentified": unidentified,
                "totalClientIds": ids, "clipped": false}}})
        };
        assert_eq!(summary.shown(None), x(9, json!({"bob": 5}), 4, 1));
        summary.count(&counted("stars:multiple.v1", "x", "bob", true));
        assert_eq!(summary.shown(None), x(4, json!({}), 4, 0));
    }

    #[test]
    fn one_of_another_method_is_not_summed_up() {
        assert_eq!(of(&[("receipt", "", "bob", false), ("a:median.v1", "", "bob", false)]), json!({}));
    }

    #[test]
    fn of_many_clients_the_first_are_shown_or_the_one_asked_for() {
        let mut summary = Summary::default();
        for number in 0..=SUMMARY_CLIENTS_SHOWN {
            summary.count(&counted("seen:flag.v1", "", &format!("c{number:04}"), false));
        }
        let shown = summary.shown(None);
        let shown = &shown["seen:flag.v1"];
        assert_eq!(shown["total"], SUMMARY_CLIENTS_SHOWN + 1);
        assert_eq!(shown["clientIds"].as_array().unwrap().len(), SUMMARY_CLIENTS_SHOWN);
        assert_eq!(shown["clipped"], true);
        let last = format!("c{SUMMARY_CLIENTS_SHOWN:04}");
        assert_eq!(summary.shown(Some(&last))["seen:flag.v1"]["clientIds"], json!([last]));
        assert_eq!(summary.shown(Some("nobody"))["seen:flag.v1"]["clientIds"], json!([]));
    }

    #[test]
    fn whoever_comes_beyond_the_bound_is_counted_and_not_remembered() {
        let mut summary = Summary::default();
        let many = SUMMARY_BYTES_MAX / 100;
        for number in 0..many {
            summary.count(&counted("seen:flag.v1", "", &format!("{number:0100}"), false));
        }
        assert!(summary.bytes() <= SUMMARY_BYTES_MAX);
        let shown = summary.shown(None);
        assert_eq!(shown["seen:flag.v1"]["total"], many);
        assert_eq!(shown["seen:flag.v1"]["clipped"], true);
        summary.count(&counted("seen:flag.v1", "", &format!("{:0100}", many - 1), true));
        assert_eq!(summary.shown(None)["seen:flag.v1"]["total"], many - 1);
        for number in 0..SUMMARY_BYTES_MAX / 100 {
            summary.count(&counted("vote:distinct.v1", &format!("{number:0100}"), "bob", false));
        }
        assert!(summary.bytes() <= SUMMARY_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn whoever_goes_on_from_the_state_comes_to_the_same(
            list in prop::collection::vec(
                (prop::sample::select(vec!["total", "flag", "distinct", "unique", "multiple"]), "[ab]", "[xy]?", any::<bool>(), 0u64..4),
                0..40,
            ),
            cut in 0usize..40,
        ) {
            let mut whole = Summary::default();
            let mut later = Summary::default();
            for (index, (method, name, client, deletes, count)) in list.iter().enumerate() {
                if index == cut {
                    later = Summary::read(&whole.state()).unwrap();
                }
                let kind = format!("t:{method}.v1");
                let client = (!client.is_empty()).then_some(&**client);
                let new = Counted { deletes: *deletes, kind: &kind, name, client, count: *count };
                whole.count(&new);
                later.count(&new);
            }
            if cut < list.len() {
                prop_assert_eq!(&later, &whole);
            }
            prop_assert_eq!(Summary::read(&whole.state()).unwrap(), whole);
        }
    }

    #[test]
    fn what_is_no_state_is_none() {
        for text in ["", "[]", "{\"a\":1}", "{\"a\":{\"\":{\"c\":{\"x\":-1}}}}", "{\"a\":{\"\":{\"z\":1}}}"] {
            assert_eq!(Summary::read(text), None, "{text}");
        }
    }
}
