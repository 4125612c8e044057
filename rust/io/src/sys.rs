//! The system calls, each with the reason why it is sound.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::limits::EVENTS_PER_WAIT;

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Milliseconds of a clock that only goes forward.
pub fn monotonic_ms() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec * 1000 + time.tv_nsec / 1_000_000
}

/// Milliseconds since 1970, UTC: the clock of records.
pub fn wall_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64)
}

/// Takes the count out of an event or timer descriptor, which then has none.
fn read_count(fd: &OwnedFd) {
    let mut count = 0u64;
    // SAFETY: eight valid bytes. It fails only when there is nothing to read.
    unsafe { libc::read(fd.as_raw_fd(), (&raw mut count).cast(), 8) };
}

/// A descriptor that others make readable.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// A new one.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the descriptor returned is ours alone.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })?;
        // SAFETY: just made, owned by nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Makes it readable.
    pub fn signal(&self) {
        let one = 1u64;
        // SAFETY: eight valid bytes. It fails only when it is as readable as can be.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    /// Makes it unreadable.
    pub fn clear(&self) {
        read_count(&self.0);
    }

    /// The descriptor, valid while this lives.
    pub fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A descriptor that becomes readable when it is time.
#[derive(Debug)]
pub struct Timer(OwnedFd);

impl Timer {
    /// One that is not set.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the descriptor returned is ours alone.
        let fd = check(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) })?;
        // SAFETY: just made, owned by nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// One that ticks every so many ms.
    pub fn every(ms: i64) -> io::Result<Self> {
        let timer = Self::new()?;
        timer.settime(ms, ms)?;
        Ok(timer)
    }

    /// Sets it to tick once, in so many ms, or at once if they are over.
    pub fn set(&self, ms: i64) {
        self.settime(ms.max(0), 0).expect("a timer of our own takes any time to come");
    }

    fn settime(&self, first_ms: i64, every_ms: i64) -> io::Result<()> {
        let time = |ms: i64| libc::timespec { tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000 };
        let mut setting = libc::itimerspec { it_interval: time(every_ms), it_value: time(first_ms) };
        if first_ms == 0 {
            setting.it_value.tv_nsec = 1; // none at all would stop it
        }
        // SAFETY: `setting` is valid; no old value is asked for.
        check(unsafe { libc::timerfd_settime(self.raw(), 0, &raw const setting, std::ptr::null_mut()) }).map(drop)
    }

    /// Makes it unreadable until the next tick.
    pub fn clear(&self) {
        read_count(&self.0);
    }

    /// The descriptor, valid while this lives.
    pub fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// The kernel's list of descriptors to watch.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// An empty one.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the descriptor returned is ours alone.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: just made, owned by nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Watches `fd`; `token` comes back with its events. One that was watched already gets the new token: its owner gave
    /// it here twice without closing it in between.
    pub fn add(&self, fd: RawFd, events: i32, token: u64) -> io::Result<()> {
        match self.control(libc::EPOLL_CTL_ADD, fd, events, token) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                self.control(libc::EPOLL_CTL_MOD, fd, events, token)
            }
            other => other,
        }
    }

    fn control(&self, operation: i32, fd: RawFd, events: i32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: token };
        // SAFETY: `event` is valid; a bad `fd` is an error, not undefined.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd, &raw mut event) }).map(drop)
    }

    /// Tokens of what happened, waiting at most so long.
    pub fn wait(&self, timeout_ms: i32, tokens: &mut Vec<u64>) {
        tokens.clear();
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_PER_WAIT];
        // SAFETY: `events` has room for as many as are asked for.
        let n =
            unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), EVENTS_PER_WAIT as i32, timeout_ms) };
        // An interrupted wait has nothing to tell.
        tokens.extend(events.iter().take(n.max(0) as usize).map(|event| event.u64));
    }

    /// The descriptor, valid while this lives.
    pub fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// No write waits for its socket or raises a signal.
pub(crate) const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// A message of these slices, for as long as they stay where they are.
pub(crate) fn message(slices: &[IoSlice<'_>]) -> libc::msghdr {
    // SAFETY: a zeroed header is a valid empty one.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    // A slice for input and output has the layout of an iovec, and a message that is sent is only read.
    message.msg_iov = slices.as_ptr().cast_mut().cast();
    message.msg_iovlen = slices.len();
    message
}

/// Writes slices to a socket without waiting; how many bytes it took.
///
/// # Safety
/// `fd` must be an open socket that nobody closes during the call.
pub unsafe fn send(fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let n = if let [slice] = slices {
        // SAFETY: the caller vouches for `fd`; the slice is only read.
        unsafe { libc::send(fd, slice.as_ptr().cast(), slice.len(), SEND_FLAGS) }
    } else {
        let message = message(slices);
        // SAFETY: the caller vouches for `fd`; the slices live through the call and are only read.
        unsafe { libc::sendmsg(fd, &raw const message, SEND_FLAGS) }
    };
    if n < 0 { Err(io::Error::last_os_error()) } else { Ok(n as usize) }
}

/// Ends a connection; the descriptor stays open.
///
/// # Safety
/// `fd` must be an open socket that nobody closes during the call.
pub unsafe fn shutdown(fd: RawFd, how: i32) {
    // SAFETY: the caller vouches for `fd`. An error says that it is down already.
    unsafe { libc::shutdown(fd, how) };
}
