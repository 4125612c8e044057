//! Fields of a JSON document by their paths, all of them in one pass that ends with the last one found.
//!
//! What stands behind that is not read: a record that breaks off there is routed all the same (and delivered as the text
//! that it is). Of members of the same name the first that leads to the field counts. What is passed over is not looked
//! into either, except for where it ends. One field may be an array, of which every element is wanted.
//!
//! A number is what stands there: `1.10` stays that, and one of forty digits is not rounded. Whole numbers of up to 64 bits
//! are read faster as numbers, and print alike; where one is met that is none of those, everything is read once more.

use std::fmt::{self, Write};
use std::ops::Range;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::failure::{Cause, Failure};
use crate::limits::CHANNELS_PER_RECORD_MAX;

/// Elements of an array that are looked at: more than these are more channels than there may be.
const ELEMENTS_MAX: usize = 2 * CHANNELS_PER_RECORD_MAX;

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
    /// The elements of an array, which counts as found under this number.
    List(usize),
    Members(Vec<Node>),
}

/// The fields that templates ask for, numbered in the order in which they were added.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    members: Vec<Node>,
    /// The document itself is wanted, and nothing in it.
    is_whole: bool,
    /// Their paths.
    paths: Vec<Box<str>>,
}

/// What was found. Kept and used again, so that its memory is.
#[derive(Debug, Default)]
pub(super) struct Found {
    text: String,
    places: SmallVec<[Option<Range<usize>>; 4]>,
    elements: SmallVec<[Range<usize>; 8]>,
    missing: usize,
    /// A number was read that is rounded, or may be.
    is_rounded: bool,
    /// Numbers are taken as they stand there.
    is_literal: bool,
}

/// Why not all was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// It is not JSON, as far as it was read.
    NotJson,
    /// An array has more elements than are looked at.
    TooMany,
    /// The path of the first that is missing, or is not what it should be.
    Field(Box<str>),
}

impl Missing {
    /// As a failure to find something in this part of a record.
    pub(super) fn told(self, cause: Cause, part: &str) -> Failure {
        match self {
            Self::NotJson => Failure::new(cause, format!("its {part} is not JSON")),
            Self::TooMany => {
                Failure::new(Cause::Channel, format!("a list in its {part} has more than {ELEMENTS_MAX} elements"))
            }
            Self::Field(path) if path.is_empty() => Failure::new(cause, format!("its {part} is no text or number")),
            Self::Field(path) => Failure::new(Cause::Field, format!("its {part} has no field {path:?} that fits")),
        }
    }
}

impl Found {
    pub(super) fn get(&self, number: usize) -> Option<&str> {
        Some(&self.text[self.places.get(number)?.clone()?])
    }

    /// The elements of the array that was asked for.
    pub(super) fn list(&self) -> impl Iterator<Item = &str> {
        self.elements.iter().map(|place| &self.text[place.clone()])
    }

    #[inline]
    fn put(&mut self, target: Target, write: impl FnOnce(&mut String)) {
        let from = self.text.len();
        match target {
            Target::Element => {
                write(&mut self.text);
                self.elements.push(from..self.text.len());
            }
            Target::Field(number) if self.places[number].is_none() => {
                write(&mut self.text);
                self.places[number] = Some(from..self.text.len());
                self.missing -= 1;
            }
            Target::Field(_) => {}
        }
    }
}

impl Fields {
    /// The number of a path, whose steps are not empty; `list` asks for the elements of an array there. The error says
    /// which other path it contradicts.
    pub(super) fn add(&mut self, path: &str, list: bool) -> Result<usize, String> {
        let contradiction = |step: &str| format!("'{step}' cannot be both text and something else");
        if self.is_whole {
            return Err(contradiction("key"));
        }
        let next = self.paths.len();
        let mut members = &mut self.members;
        let mut steps = path.split('.').peekable();
        while let Some(step) = steps.next() {
            let is_last = steps.peek().is_none();
            let at = members.iter().position(|node| *node.name == *step).unwrap_or_else(|| {
                let wanted = match (is_last, list) {
                    (false, _) => Wanted::Members(Vec::new()),
                    (true, false) => Wanted::Value(next),
                    (true, true) => Wanted::List(next),
                };
                members.push(Node { name: step.into(), wanted });
                members.len() - 1
            });
            match (&mut members[at].wanted, is_last) {
                (Wanted::Value(number), true) if !list => return Ok(Self::named(&mut self.paths, *number, path)),
                (Wanted::List(number), true) if list => return Ok(Self::named(&mut self.paths, *number, path)),
                (Wanted::Members(inner), false) => members = inner,
                _ => return Err(contradiction(step)),
            }
        }
        Err("a path has at least one step".into())
    }

    /// The number of the document itself.
    pub(super) fn add_whole(&mut self) -> Result<usize, String> {
        if !self.members.is_empty() {
            return Err("'key' cannot be both text and something else".into());
        }
        self.is_whole = true;
        Ok(Self::named(&mut self.paths, 0, ""))
    }

    fn named(paths: &mut Vec<Box<str>>, number: usize, path: &str) -> usize {
        if number == paths.len() {
            paths.push(path.into());
        }
        number
    }

    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Looks for all of them; each has to be found, and be text, a number, true or false.
    pub(super) fn find(&self, json: &[u8], found: &mut Found) -> Result<(), Missing> {
        found.is_literal = false;
        found.is_rounded = false;
        self.read(json, found)?;
        if found.is_rounded {
            found.is_literal = true;
            self.read(json, found)?;
        }
        Ok(())
    }

    fn read(&self, json: &[u8], found: &mut Found) -> Result<(), Missing> {
        found.text.clear();
        found.places.clear();
        found.elements.clear();
        found.places.resize(self.paths.len(), None);
        found.missing = self.paths.len();
        let mut reader = serde_json::Deserializer::from_slice(json);
        let read = if self.is_whole {
            Leaf { target: Target::Field(0), found }.deserialize(&mut reader)
        } else {
            Members { wanted: &self.members, found }.deserialize(&mut reader)
        };
        // Ends with an error where the last one was found in the middle: what counts is whether it was.
        if found.missing == 0 {
            return Ok(());
        }
        Err(self.why(read.err().is_some_and(|error| !error.is_data()), found))
    }

    #[cold]
    fn why(&self, is_broken: bool, found: &Found) -> Missing {
        if is_broken {
            return Missing::NotJson;
        }
        if found.elements.len() > ELEMENTS_MAX {
            return Missing::TooMany;
        }
        let first = found.places.iter().position(Option::is_none).unwrap_or_default();
        Missing::Field(self.paths[first].clone())
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
                Some(Wanted::Value(number) | Wanted::List(number)) if found.places[*number].is_some() => {
                    map.next_value::<IgnoredAny>()?;
                }
                Some(Wanted::Value(number)) => map.next_value_seed(Leaf { target: Target::Field(*number), found })?,
                Some(Wanted::List(number)) => {
                    map.next_value_seed(Elements { found })?;
                    found.put(Target::Field(*number), |_| ());
                }
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

/// An array of which every element is wanted.
struct Elements<'f> {
    found: &'f mut Found,
}

impl<'de> DeserializeSeed<'de> for Elements<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while elements.next_element_seed(Leaf { target: Target::Element, found: self.found })?.is_some() {
            if self.found.elements.len() > ELEMENTS_MAX {
                return Err(A::Error::custom("there are too many"));
            }
        }
        Ok(())
    }
}

/// Where what is found goes.
#[derive(Debug, Clone, Copy)]
enum Target {
    Field(usize),
    Element,
}

/// What a path may end at.
struct Leaf<'f> {
    target: Target,
    found: &'f mut Found,
}

impl Leaf<'_> {
    fn put(self, value: impl fmt::Display) {
        self.found.put(self.target, |text| write!(text, "{value}").expect("memory takes what is written"));
    }
}

impl<'de> DeserializeSeed<'de> for Leaf<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        if !self.found.is_literal {
            return reader.deserialize_any(self);
        }
        let literal = <&RawValue>::deserialize(reader)?.get();
        if literal.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            self.found.put(self.target, |text| text.push_str(literal));
            return Ok(());
        }
        serde_json::Deserializer::from_str(literal).deserialize_any(self).map_err(D::Error::custom)
    }
}

impl Visitor<'_> for Leaf<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number, true or false")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.found.put(self.target, |found| found.push_str(text));
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
        self.found.is_rounded = true;
        self.put(number);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(paths: &[&str], json: &str) -> Option<Vec<String>> {
        let mut fields = Fields::default();
        let numbers: Vec<usize> = paths.iter().map(|path| fields.add(path, false).unwrap()).collect();
        let mut found = Found::default();
        fields
            .find(json.as_bytes(), &mut found)
            .is_ok()
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
    fn a_number_is_what_stands_there() {
        for number in [
            "0",
            "-0",
            "-9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "123456789012345678901234567890",
            "1.0",
            "1.10",
            "1e2",
            "1E+2",
            "0.1000000000000000055511151231257827",
        ] {
            let json = format!(r#"{{"s":"a\"b","n": {number} ,"t":true,"in":{{"l":[{number}, "x", 7]}},"rest"#);
            assert_eq!(find(&["t", "n", "s"], &json).unwrap(), ["true", number, "a\"b"]);
            let mut fields = Fields::default();
            fields.add("in.l", true).unwrap();
            let mut found = Found::default();
            fields.find(json.as_bytes(), &mut found).unwrap();
            assert_eq!(found.list().collect::<Vec<_>>(), [number, "x", "7"]);
        }
        assert_eq!(find(&["a", "b"], r#"{"a":1.5,"b":null}"#), None);
        assert_eq!(find(&["a"], r#"{"a":1.5.}"#).unwrap(), ["1.5"], "what stands behind it is not read");
    }

    #[test]
    fn what_is_missing_is_told() {
        let mut fields = Fields::default();
        fields.add("a", false).unwrap();
        fields.add("b.c", false).unwrap();
        let why = |json: &str| fields.find(json.as_bytes(), &mut Found::default()).unwrap_err();
        assert_eq!(why(r#"{"a":1}"#), Missing::Field("b.c".into()));
        assert_eq!(why(r#"{"a":1,"b":{"c":[]}}"#), Missing::Field("b.c".into()));
        assert_eq!(why(r#"{"b":{"c":1}}"#), Missing::Field("a".into()));
        assert_eq!(why("[1]"), Missing::Field("a".into()));
        for json in ["", "hello", r#"{"a":1"#, r#"{"a":1,"b":{"c":"#] {
            assert_eq!(why(json), Missing::NotJson, "{json}");
        }
    }

    #[test]
    fn every_element_of_an_array_is_found() {
        let list = |json: &str| {
            let mut fields = Fields::default();
            fields.add("a", false).unwrap();
            fields.add("in.rooms", true).unwrap();
            let mut found = Found::default();
            let whole = fields.find(json.as_bytes(), &mut found).is_ok();
            whole.then(|| found.list().map(str::to_owned).collect::<Vec<_>>())
        };
        assert_eq!(list(r#"{"in":{"rooms":["x",2,true]},"a":1}"#).unwrap(), ["x", "2", "true"]);
        assert_eq!(list(r#"{"a":1,"in":{"rooms":["x"]},"in":{"rooms":["y"]}}"#).unwrap(), ["x"]);
        assert_eq!(list(r#"{"in":{"rooms":["x"]},"in":{"rooms":["y"]},"a":1}"#).unwrap(), ["x"]);
        assert_eq!(list(r#"{"a":1,"in":{"rooms":[]}}"#).unwrap(), [""; 0]);
        for json in
            [r#"{"a":1,"in":{"rooms":"x"}}"#, r#"{"a":1,"in":{"rooms":["x",[]]}}"#, r#"{"a":1,"in":{"rooms":["x""#]
        {
            assert_eq!(list(json), None, "{json}");
        }
        let endless = format!(r#"{{"a":1,"in":{{"rooms":[{}"#, "1,".repeat(100_000));
        assert_eq!(list(&endless), None);
    }

    #[test]
    fn the_document_itself_can_be_asked_for() {
        let whole = |json: &str| {
            let mut fields = Fields::default();
            let number = fields.add_whole().unwrap();
            let mut found = Found::default();
            fields.find(json.as_bytes(), &mut found).map(|()| found.get(number).unwrap().to_owned())
        };
        assert_eq!(whole(r#""te\"xt""#).unwrap(), "te\"xt");
        assert_eq!(whole("17").unwrap(), "17");
        assert_eq!(whole(" 17.50 ").unwrap(), "17.50");
        assert_eq!(whole("{}").unwrap_err(), Missing::Field("".into()));
        assert_eq!(whole("te").unwrap_err(), Missing::NotJson);
    }

    #[test]
    fn paths_that_contradict_each_other_are_refused() {
        let mut fields = Fields::default();
        fields.add("a.b", false).unwrap();
        assert!(fields.add("a", false).is_err());
        assert!(fields.add("a.b.c", false).is_err());
        assert!(fields.add("a.b", true).is_err());
        assert!(fields.add_whole().is_err());
        assert_eq!(fields.add("a.b", false), Ok(0));
        assert_eq!(fields.add("c", false), Ok(1));
        assert_eq!(fields.add("d", true), Ok(2));
        let mut whole = Fields::default();
        whole.add_whole().unwrap();
        assert!(whole.add("a", false).is_err());
    }
}
