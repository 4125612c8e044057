//! Lines in, JSON out. A thread waits for the lines, so that whoever obeys them need not.

use std::io::{Write, stdin, stdout};
use std::sync::mpsc::{Receiver, sync_channel};

use crate::limits::COMMANDS_MAX;

/// Lines of standard input; the channel closes when that ends.
pub fn lines() -> Receiver<String> {
    let (tell, lines) = sync_channel(COMMANDS_MAX);
    std::thread::spawn(move || {
        for line in stdin().lines() {
            let Ok(line) = line else { return };
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Prints one answer.
pub fn answer(value: &serde_json::Value) -> Result<(), String> {
    let mut out = stdout().lock();
    writeln!(out, "{value}").and_then(|()| out.flush()).map_err(|error| error.to_string())
}

/// The numbers behind a command's name.
pub fn numbers<const N: usize>(line: &str, words: &mut std::str::SplitWhitespace<'_>) -> Result<[u64; N], String> {
    let mut found = [0; N];
    for number in &mut found {
        *number = words.next().and_then(|word| word.parse().ok()).ok_or(format!("what is `{line}`?"))?;
    }
    Ok(found)
}
