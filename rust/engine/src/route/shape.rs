//! What the channels of a topic's rule look like: which may be among them is known without a record.

use crate::placing::Affixes;

/// The texts that stand before, between and behind a template's fields, for the records of one topic.
#[derive(Debug, Default)]
pub struct Shape {
    texts: Vec<String>,
}

impl Shape {
    pub(super) fn new() -> Self {
        Self { texts: vec![String::new()] }
    }

    pub(super) fn push_text(&mut self, text: &str) {
        self.texts.last_mut().expect("there is one from the beginning").push_str(text);
    }

    pub(super) fn push_field(&mut self) {
        self.texts.push(String::new());
    }

    /// The texts around the only field, if there is but one.
    pub(super) fn around(&self) -> Option<Affixes> {
        let [prefix, suffix] = &self.texts[..] else { return None };
        Some(Affixes { prefix: prefix.clone(), suffix: suffix.clone() })
    }

    /// Whether a channel of this name may be among them.
    pub fn may_be(&self, name: &str) -> bool {
        let [first, middle @ .., last] = &self.texts[..] else { return self.texts.iter().all(|text| text == name) };
        let Some(mut rest) = name.strip_prefix(&**first).and_then(|rest| rest.strip_suffix(&**last)) else {
            return false;
        };
        for text in middle {
            // Each as early as can be: then there is most room for the next.
            let Some((_, behind)) = rest.split_once(&**text) else { return false };
            rest = behind;
        }
        true
    }
}
