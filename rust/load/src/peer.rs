//! Other servers than ours: what they are told after the upgrade, and their messages wherever an envelope has them.
//!
//! Whatever a server wraps around a message, its payload is `~SEQUENCE SENT_US padding`, and `~` stands nowhere else.

use memchr::{memchr, memmem};

use crate::Receive;
use crate::frames::{TEXT, client_frame};

const MARK: u8 = b'~';

/// How to speak to a server that is not ours.
pub struct Peer {
    /// Whole frames, sent after the upgrade.
    pub say: Vec<Vec<u8>>,
    ready: Vec<u8>,
    /// Payloads that want an answer, and the answers as whole frames.
    answers: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Peer {
    pub fn new(options: &Receive) -> Self {
        let frame = |text: &String| client_frame(TEXT, text.as_bytes());
        Self {
            say: options.say.iter().map(frame).collect(),
            ready: options.ready.clone().into_bytes(),
            answers: options.answer.chunks(2).map(|pair| (pair[0].clone().into_bytes(), frame(&pair[1]))).collect(),
        }
    }

    /// Whether this says that the connection is subscribed.
    pub fn is_ready(&self, payload: &[u8]) -> bool {
        memmem::find(payload, &self.ready).is_some()
    }

    /// What has to be answered to this, if anything.
    pub fn answer(&self, payload: &[u8]) -> Option<&[u8]> {
        self.answers.iter().find(|(asked, _)| asked == payload).map(|(_, answer)| &**answer)
    }
}

/// Calls `found` with the number and the time of sending, in µs, of each message; returns how many there were. Fails if
/// one is cut.
pub fn stamps(mut payload: &[u8], mut found: impl FnMut(u64, u64)) -> Result<usize, String> {
    let mut count = 0;
    while let Some(at) = memchr(MARK, payload) {
        payload = &payload[at + 1..];
        let stamp = number(&mut payload).and_then(|sequence| Some((sequence, number(&mut payload)?)));
        let (sequence, sent_us) = stamp.ok_or_else(|| {
            let start = &payload[..payload.len().min(40)];
            format!("a message that is cut, or that nobody sent, ends {}", String::from_utf8_lossy(start))
        })?;
        found(sequence, sent_us);
        count += 1;
    }
    Ok(count)
}

/// Takes decimal digits and the blank behind them.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let length = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let digits = std::str::from_utf8(&bytes[..length]).ok()?;
    *bytes = bytes[length..].strip_prefix(b" ")?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(payload: &str) -> Result<Vec<(u64, u64)>, String> {
        let mut found = Vec::new();
        let count = stamps(payload.as_bytes(), |sequence, sent_us| found.push((sequence, sent_us)))?;
        assert_eq!(count, found.len());
        Ok(found)
    }

    #[test]
    fn messages_are_found_in_any_envelope() {
        assert_eq!(read(r#"42["m","~7 1000 xx"]"#).unwrap(), [(7, 1000)]);
        assert_eq!(read("MSG c 1 9\r\n~0 5 xxxxx\r\nMSG c 1 9\r\n~1 6 xxxxx\r\n").unwrap(), [(0, 5), (1, 6)]);
        assert_eq!(read("{}").unwrap(), []);
    }

    #[test]
    fn a_message_that_is_cut_is_an_error() {
        for payload in ["~", "~12", "~12 ", "~12 34", "~ 5 6 ", "~x 5 ", "~99999999999999999999 5 "] {
            assert!(read(payload).is_err(), "{payload}");
        }
    }
}
