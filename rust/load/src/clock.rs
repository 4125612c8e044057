//! Clocks that other processes read alike.

fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer; both clocks used here exist on every Linux.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time
}

/// µs of the machine's monotonic clock.
pub fn monotonic_us() -> u64 {
    let time = read(libc::CLOCK_MONOTONIC);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

/// CPU time of this process in ns.
pub fn cpu_ns() -> u64 {
    let time = read(libc::CLOCK_PROCESS_CPUTIME_ID);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
