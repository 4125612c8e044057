//! Fields of a JSON document by their paths, all of them in one pass that ends with the last one found.
//!
//! What stands behind that is not read: a record that breaks off there is routed all the same (and delivered as the text
//! that it is). Of members of the same name the first that leads to the field counts. What is passed over is not looked
//! into either, except for where it ends.

use std::fmt::{self, Write};
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use smallvec::SmallVec;

/// A path that several may begin with: a member's name, and what is wanted of its value.
#[derive(Debug, PartialEq, Eq)]
struct Node {
    name: Box<str>,
    wanted: Wanted,
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// The value itself, under this number.
    Value(usize),
    Members(Vec<Node>),
}

/// The fields that a template asks for, numbered in the order in which they were added.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    members: Vec<Node>,
    count: usize,
}

/// What was found. Kept and used again, so that its memory is.
#[derive(Debug, Default)]
pub(super) struct Found {
    text: String,
    places: SmallVec<[Option<Range<usize>>; 4]>,
    missing: usize,
}

impl Found {
    pub(super) fn get(&self, number: usize) -> Option<&str> {
        Some(&self.text[self.places.get(number)?.clone()?])
    }

    fn put(&mut self, number: usize, write: impl FnOnce(&mut String)) {
        if self.places[number].is_none() {
            let from = self.text.len();
            write(&mut self.text);
            self.places[number] = Some(from..self.text.len());
            self.missing -= 1;
        }
    }
}

impl Fields {
    /// The number of a path, whose steps are not empty. The error says which other path it contradicts.
    pub(super) fn add(&mut self, path: &str) -> Result<usize, String> {
        let mut members = &mut self.members;
        let mut steps = path.split('.').peekable();
        while let Some(step) = steps.next() {
            let last = steps.peek().is_none();
            let at = members.iter().position(|node| *node.name == *step).unwrap_or_else(|| {
                let wanted = if last { Wanted::Value(self.count) } else { Wanted::Members(Vec::new()) };
                members.push(Node { name: step.into(), wanted });
                members.len() - 1
            });
            match (&mut members[at].wanted, last) {
                (Wanted::Value(number), true) => {
                    self.count = self.count.max(*number + 1);
                    return Ok(*number);
                }
                (Wanted::Members(inner), false) => members = inner,
                _ => return Err(format!("'{step}' cannot be both text and an object")),
            }
        }
        Err("a path has at least one step".into())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Looks for all of them; whether each was found, and is text, a number, true or false.
    pub(super) fn find(&self, json: &[u8], found: &mut Found) -> bool {
        found.text.clear();
        found.places.clear();
        found.places.resize(self.count, None);
        found.missing = self.count;
        let members = Members { wanted: &self.members, found };
        // Ends with an error where the last one was found in the middle: what counts is whether it was.
        let _ = members.deserialize(&mut serde_json::Deserializer::from_slice(json));
        found.missing == 0
    }
}

/// An object that has wanted members.
struct Members<'n, 'f> {
    wanted: &'n [Node],
    found: &'f mut Found,
}

impl<'de> DeserializeSeed<'de> for Members<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { wanted, found } = self;
        while found.missing > 0
            && let Some(node) = map.next_key_seed(Name(wanted))?
        {
            match node.map(|node| &node.wanted) {
                None => map.next_value::<IgnoredAny>().map(drop)?,
                Some(Wanted::Members(wanted)) => map.next_value_seed(Members { wanted, found })?,
                Some(Wanted::Value(number)) if found.places[*number].is_some() => {
                    map.next_value::<IgnoredAny>()?;
                }
                Some(Wanted::Value(number)) => map.next_value_seed(Leaf { number: *number, found })?,
            }
        }
        Ok(())
    }
}

/// A member's name: which of the wanted it is.
struct Name<'n>(&'n [Node]);

impl<'de, 'n> DeserializeSeed<'de> for Name<'n> {
    type Value = Option<&'n Node>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'n> Visitor<'_> for Name<'n> {
    type Value = Option<&'n Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|node| *node.name == *name))
    }
}

/// What a path may end at.
struct Leaf<'f> {
    number: usize,
    found: &'f mut Found,
}

impl Leaf<'_> {
    fn put(self, value: impl fmt::Display) {
        self.found.put(self.number, |text| write!(text, "{value}").expect("memory takes what is written"));
    }
}

impl<'de> DeserializeSeed<'de> for Leaf<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl Visitor<'_> for Leaf<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number, true or false")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.found.put(self.number, |found| found.push_str(text));
        Ok(())
    }

    fn visit_bool<E>(self, truth: bool) -> Result<(), E> {
        self.put(truth);
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.put(number);
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.put(number);
        Ok(())
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        self.put(number);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(paths: &[&str], json: &str) -> Option<Vec<String>> {
        let mut fields = Fields::default();
        let numbers: Vec<usize> = paths.iter().map(|path| fields.add(path).unwrap()).collect();
        let mut found = Found::default();
        fields
            .find(json.as_bytes(), &mut found)
            .then(|| numbers.iter().map(|&number| found.get(number).expect("all were found").to_owned()).collect())
    }

    #[test]
    fn several_are_found_in_one_pass_in_any_order() {
        let json = r#"{"z":{"b":[{"a":9}]},"n":-2.5,"a":{"c":true,"b":"in \"it\"","d":{}},"m":18446744073709551615}"#;
        assert_eq!(
            find(&["m", "a.b", "n", "a.c", "a.b"], json).unwrap(),
            ["18446744073709551615", "in \"it\"", "-2.5", "true", "in \"it\""]
        );
    }

    #[test]
    fn what_stands_behind_the_last_is_not_read() {
        for rest in ["", "}", ",", r#","b":"#, "garbage", r#","a":"again"}"#] {
            assert_eq!(find(&["a"], &format!(r#"{{"x":[],"a":"here"{rest}"#)).unwrap(), ["here"], "{rest}");
        }
    }

    #[test]
    fn of_the_same_name_the_first_counts() {
        assert_eq!(find(&["a", "b"], r#"{"a":1,"a":{"x":[]},"b":3}"#).unwrap(), ["1", "3"]);
        assert_eq!(find(&["a.b", "c"], r#"{"a":{"x":1},"a":{"b":2},"a":{"b":3},"c":4}"#).unwrap(), ["2", "4"]);
        assert_eq!(find(&["a", "b"], r#"{"a":1,"a":2,"b":3}"#).unwrap(), ["1", "3"]);
    }

    #[test]
    fn each_must_be_there_and_be_a_single_value() {
        for json in
            ["", "[]", "{}", "5", r#"{"a":1}"#, r#"{"a":1,"b":null}"#, r#"{"a":1,"b":[2]}"#, r#"{"a":1,"b":{}}"#]
        {
            assert_eq!(find(&["a", "b"], json), None, "{json}");
        }
        for json in [r#"{"a":"x"#, r#"{"x":[1,"a":2}"#, "{\"a\":\"\\ud800\"}", "{\"a\":\"\u{1}\"}", r#"{"x" "a":1}"#] {
            assert_eq!(find(&["a"], json), None, "{json}");
        }
        assert_eq!(find(&["a.b"], r#"{"a":"b"}"#), None);
        let nested = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(find(&["a"], &format!(r#"{{"a":{nested}}}"#)), None);
        assert!(find(&["a"], &format!(r#"{{"x":{nested},"a":1}}"#)).is_some(), "passed over, however deep");
    }

    #[test]
    fn paths_that_contradict_each_other_are_refused() {
        let mut fields = Fields::default();
        fields.add("a.b").unwrap();
        assert!(fields.add("a").is_err());
        assert!(fields.add("a.b.c").is_err());
        assert_eq!(fields.add("a.b"), Ok(0));
        assert_eq!(fields.add("c"), Ok(1));
    }
}
