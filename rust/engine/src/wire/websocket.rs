//! The header of a WebSocket frame from server to client (RFC 6455 §5.2): unmasked, final, one message per frame.
//!
//! ```text
//! 1 byte  0x80 | opcode       1 byte  length ≤ 125, or 126, or 127       2 or 8 bytes  length, big-endian
//! ```

/// Opcodes.
pub const TEXT: u8 = 1;
/// See [`TEXT`].
pub const BINARY: u8 = 2;
/// See [`TEXT`].
pub const CLOSE: u8 = 8;
/// See [`TEXT`].
pub const PING: u8 = 9;
/// See [`TEXT`].
pub const PONG: u8 = 10;

/// The longest header of an unmasked frame.
pub const HEADER_MAX: usize = 10;

/// The header of a payload of so many bytes, and how long it is.
pub(super) fn header(opcode: u8, length: usize) -> ([u8; HEADER_MAX], usize) {
    let mut bytes = [0; HEADER_MAX];
    bytes[0] = 0x80 | opcode;
    let size = match length {
        0..=125 => {
            bytes[1] = length as u8;
            2
        }
        126..=0xFFFF => {
            bytes[1] = 126;
            bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            4
        }
        _ => {
            bytes[1] = 127;
            bytes[2..10].copy_from_slice(&(length as u64).to_be_bytes());
            10
        }
    };
    (bytes, size)
}

/// Appends a frame around `payload`.
pub fn append(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    let (bytes, size) = header(opcode, payload.len());
    out.extend_from_slice(&bytes[..size]);
    out.extend_from_slice(payload);
}

/// A CLOSE frame; `code` 0 stands for none.
pub fn close(code: u16, reason: &str) -> Vec<u8> {
    let mut payload = Vec::new();
    if code != 0 {
        payload.extend_from_slice(&code.to_be_bytes());
        let mut end = reason.len().min(123);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        payload.extend_from_slice(&reason.as_bytes()[..end]);
    }
    let mut out = Vec::new();
    append(&mut out, CLOSE, &payload);
    out
}
