//! What an entry of a ring is, and which kinds an attachment is given.

/// What an entry is to its channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A publication.
    Message,
    /// Somebody entered, left, or changed what they show.
    Presence,
    /// Something said about a message.
    Annotation,
    /// The node's own word about the channel; in no log.
    Meta,
}

impl Kind {
    /// Whether it lies in a topic of messages: positions speak of those alone.
    pub fn has_position(self) -> bool {
        matches!(self, Self::Message | Self::Annotation)
    }
}

/// A set of kinds; the numbers are part of the contract with the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Kinds(u8);

impl Kinds {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// [`Kind::Message`].
    pub const MESSAGES: Self = Self(1);
    /// [`Kind::Presence`].
    pub const PRESENCE: Self = Self(2);
    /// [`Kind::Annotation`].
    pub const ANNOTATIONS: Self = Self(4);
    /// [`Kind::Meta`].
    pub const META: Self = Self(8);
    /// [`Kind::Presence`], as far as it is the receiver's own.
    pub const OWN_PRESENCE: Self = Self(16);
    /// No kind: who has it may publish, and is counted as such.
    pub const PUBLISH: Self = Self(32);
    /// No kind: who has it is given what was appended to a message as an update, with the whole of it.
    pub const WHOLE_APPENDS: Self = Self(64);
    /// How many bits have a meaning.
    pub const BITS: usize = 7;
    /// Whatever it is.
    pub const ALL: Self = Self(15);

    /// The set of these bits; none for bits without meaning.
    pub fn from_bits(bits: u8) -> Option<Self> {
        (bits < 1 << Self::BITS).then_some(Self(bits))
    }

    /// Whether everything of this kind is in it.
    pub fn has(self, kind: Kind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }

    /// Whether all of `other` is in it.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those of them that everybody is given alike.
    #[must_use]
    pub fn shared(self) -> Self {
        Self(self.0 & Self::ALL.0)
    }

    pub(crate) fn has_bit(self, bit: usize) -> bool {
        self.0 >> bit & 1 != 0
    }

    pub(crate) fn first_bit(self) -> usize {
        self.0.trailing_zeros() as usize
    }

    /// Without those of `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_in_the_set_of_its_name() {
        let sets = [Kinds::MESSAGES, Kinds::PRESENCE, Kinds::ANNOTATIONS, Kinds::META];
        for (kind, own) in [Kind::Message, Kind::Presence, Kind::Annotation, Kind::Meta].into_iter().zip(sets) {
            for set in sets {
                assert_eq!(set.has(kind), set == own);
            }
            assert!(Kinds::ALL.has(kind) && !Kinds::OWN_PRESENCE.has(kind) && !Kinds::ALL.without(own).has(kind));
        }
        assert_eq!(Kinds::from_bits(127), Some(Kinds(127)));
        assert_eq!(Kinds::from_bits(128), None);
    }
}
