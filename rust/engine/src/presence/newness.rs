//! Which of two events of a member is the newer one, judged as clients judge it (Ably protocol, "Newness").

/// What an event is judged by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    /// Of what its own client said: msgSerial and index.
    said: Option<(u64, u64)>,
    timestamp: i64,
}

impl Stamp {
    /// By its id, if that begins with the connection's, and its time.
    pub(super) fn of(id: Option<&str>, connection_id: &str, timestamp: i64) -> Self {
        Self { said: id.and_then(|id| said(id, connection_id)), timestamp }
    }

    /// Among what the client said itself, the later; otherwise by time, where the one that comes last wins a draw.
    pub(super) fn is_newer_than(&self, old: &Self) -> bool {
        match (self.said, old.said) {
            (Some(new), Some(old)) => new > old,
            _ => self.timestamp >= old.timestamp,
        }
    }
}

/// The msgSerial and index in an id `connectionId:msgSerial:index`.
pub(super) fn said(id: &str, connection_id: &str) -> Option<(u64, u64)> {
    let (serial, index) = id.strip_prefix(connection_id)?.strip_prefix(':')?.split_once(':')?;
    Some((number(serial)?, number(index)?))
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_said_is_ordered_by_its_numbers_whatever_the_time() {
        let stamp = |id: &str, timestamp| Stamp::of(Some(id), "c", timestamp);
        assert!(stamp("c:10:0", 1).is_newer_than(&stamp("c:9:5", 2)));
        assert!(stamp("c:1:1", 1).is_newer_than(&stamp("c:1:0", 2)));
        assert!(!stamp("c:1:0", 2).is_newer_than(&stamp("c:1:0", 1)));
    }

    #[test]
    fn what_was_said_for_it_is_ordered_by_time() {
        let (own, other) = (Stamp::of(Some("c:9:0"), "c", 5), |timestamp| Stamp::of(Some("gone:x:0"), "c", timestamp));
        assert!(other(5).is_newer_than(&own) && !other(4).is_newer_than(&own));
        assert!(own.is_newer_than(&other(5)) && !own.is_newer_than(&other(6)));
        assert!(Stamp::of(None, "c", 5).is_newer_than(&own));
    }

    #[test]
    fn an_id_of_the_client_has_three_parts() {
        assert_eq!(said("c:1:2", "c"), Some((1, 2)));
        for id in ["c:1", "c:1:2:3", "c:x:1", "c:+1:1", "c::1", "cc:1:1", "c", "", "c:99999999999999999999:0"] {
            assert_eq!(said(id, "c"), None, "{id}");
        }
    }
}
