//! All connections on one thread: opened a few at a time, read when they have something, silent in between.

use std::os::fd::AsRawFd;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use fanout_io::sys::Epoll;
use serde_json::json;

use crate::Receive;
use crate::commands::{answer, lines, numbers};
use crate::connection::{Connection, Shared, Turn};
use crate::limits::{AWAKE_MS, LONG_REST_US, REST_US};
use crate::plan::Plan;

struct Fleet {
    plan: Plan,
    epoll: Epoll,
    connections: Vec<Option<Connection>>,
    shared: Shared,
    tokens: Vec<u64>,
    attached: usize,
    /// When something last came, or a command.
    stirred: Instant,
}

/// Connects, then obeys until standard input ends.
pub fn run(options: &Receive) -> Result<(), String> {
    if !options.address.ip().is_loopback() {
        return Err(format!("{} is not on loopback, where load belongs", options.address));
    }
    let mut fleet = Fleet {
        plan: Plan::new(options)?,
        epoll: Epoll::new().map_err(|error| error.to_string())?,
        connections: Vec::new(),
        shared: Shared::new(options.format),
        tokens: Vec::new(),
        attached: 0,
        stirred: Instant::now(),
    };
    let timeout = Duration::from_secs(options.timeout.into());
    let begun = Instant::now();
    fleet.open(options.connections as usize, options.pace as usize, timeout)?;
    answer(&json!({"attached": fleet.attached, "seconds": begun.elapsed().as_secs_f64()}))?;
    fleet.obey(timeout)
}

impl Fleet {
    fn open(&mut self, count: usize, pace: usize, timeout: Duration) -> Result<(), String> {
        let deadline = Instant::now() + timeout;
        while self.attached < count {
            while self.connections.len() < count && self.connections.len() - self.attached < pace {
                let index = self.connections.len();
                let opened = Connection::open(&self.plan, index).and_then(|connection| {
                    self.epoll.add(connection.stream().as_raw_fd(), libc::EPOLLIN, index as u64)?;
                    Ok(connection)
                });
                self.connections.push(Some(opened.map_err(|error| format!("connection {index}: {error}"))?));
                self.attached += usize::from(self.plan.raw);
            }
            self.turn()?;
            let gone = self.connections.iter().filter(|connection| connection.is_none()).count();
            if gone > 0 {
                return Err(format!("{gone} connections were closed before all were attached"));
            }
            if Instant::now() > deadline {
                return Err(format!("{} of {count} attached in {} s", self.attached, timeout.as_secs()));
            }
        }
        Ok(())
    }

    fn obey(&mut self, timeout: Duration) -> Result<(), String> {
        let commands = lines();
        let mut waiting: Option<Instant> = None;
        loop {
            self.turn()?;
            if let Some(since) = waiting {
                let reached = self.shared.progress.missing == 0;
                if reached || since.elapsed() > timeout {
                    answer(&json!({"reached": reached, "missing": self.shared.progress.missing}))?;
                    waiting = None;
                }
                continue;
            }
            let line = match commands.try_recv() {
                Ok(line) => line,
                Err(TryRecvError::Empty) => continue,
                Err(TryRecvError::Disconnected) => return Ok(()),
            };
            self.stirred = Instant::now();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("until") => {
                    let [target] = numbers(&line, &mut words)?;
                    self.aim(target);
                    waiting = Some(Instant::now());
                }
                Some("report") => answer(&self.shared.progress.tally.report())?,
                _ => return Err(format!("what is `{line}`?")),
            }
        }
    }

    fn aim(&mut self, target: u64) {
        let cursors = self.connections.iter().flatten().flat_map(|connection| &*connection.cursors);
        self.shared.progress.target = target;
        self.shared.progress.missing = cursors.filter(|cursor| cursor.next < target).count();
    }

    /// Reads every connection that has something, once.
    fn turn(&mut self) -> Result<(), String> {
        let mut tokens = std::mem::take(&mut self.tokens);
        self.epoll.wait(0, &mut tokens);
        if tokens.is_empty() {
            let awake = self.stirred.elapsed() < Duration::from_millis(AWAKE_MS);
            std::thread::sleep(Duration::from_micros(if awake { REST_US } else { LONG_REST_US }));
        } else {
            self.stirred = Instant::now();
        }
        for &token in &tokens {
            let place = &mut self.connections[token as usize];
            let Some(connection) = place else { continue };
            match connection.turn(&self.plan, &mut self.shared)? {
                Turn::Nothing => {}
                Turn::Attached => self.attached += 1,
                Turn::Closed => {
                    *place = None;
                    self.shared.progress.tally.closed();
                    self.aim(self.shared.progress.target);
                }
            }
        }
        self.tokens = tokens;
        Ok(())
    }
}
