//! Who gets a core that several threads want (sched(7), `sched_setattr(2)`).
//!
//! A thread that wakes waits until the one that runs has used its slice up: on a kernel of 250 ticks a second, 4 ms or 8.
//! Threads that carry messages use little time, and each hands on to the next; behind a loop that lets thousands in they
//! would wait so long at every hand-over. Two things help, on the scheduler's word alone and without any privilege:
//!
//! - a thread that asks for a short slice goes before those with longer ones when it wakes (Linux 6.12; earlier kernels
//!   take the wish and ignore it), and those that it starts inherit that;
//! - a thread that has used what is its share of a turn can offer the core to the others.

use std::mem;

/// The slice of threads that are to run soon after they wake: the shortest that the kernel grants.
pub const PROMPT_NS: u64 = 100_000;

/// Has the calling thread, and those that it starts from now on, run soon after they wake; or as others do again.
///
/// Does nothing where the kernel refuses, or the thread is not scheduled as most are: what was chosen for it is kept.
pub fn set_prompt(prompt: bool) {
    let Some(mut attributes) = attributes() else { return };
    if attributes.sched_policy != libc::SCHED_OTHER.cast_unsigned() {
        return;
    }
    attributes.sched_runtime = if prompt { PROMPT_NS } else { 0 };
    // SAFETY: a valid structure that says its own size; 0 is the calling thread.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}

/// Lets other threads that wait for this core go first.
pub fn give_way() {
    // SAFETY: no arguments; it does not fail.
    unsafe { libc::sched_yield() };
}

fn attributes() -> Option<libc::sched_attr> {
    // SAFETY: plain numbers, for which zero is a value.
    let mut attributes: libc::sched_attr = unsafe { mem::zeroed() };
    let size = mem::size_of_val(&attributes);
    // SAFETY: a valid place of so many bytes for the answer; 0 is the calling thread.
    let asked = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
    (asked == 0).then_some(attributes)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::{PROMPT_NS, attributes, set_prompt};

    /// 0 on kernels that do not say.
    fn slice_ns() -> u64 {
        attributes().unwrap().sched_runtime
    }

    fn alone<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        thread::spawn(work).join().unwrap()
    }

    #[test]
    fn a_thread_and_those_it_starts_have_short_slices_until_it_says_otherwise() {
        let ordinary = slice_ns();
        let seen = alone(|| {
            set_prompt(true);
            let own = (slice_ns(), alone(slice_ns));
            set_prompt(false);
            (own, slice_ns(), alone(slice_ns))
        });
        let prompt = if ordinary == 0 { 0 } else { PROMPT_NS };
        assert_eq!(seen, ((prompt, prompt), ordinary, ordinary));
    }

    #[test]
    fn how_nice_a_thread_is_stays() {
        let nice = alone(|| {
            // SAFETY: plain numbers; lowers the calling thread's priority alone.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 3) };
            set_prompt(true);
            attributes().unwrap().sched_nice
        });
        assert_eq!(nice, 3);
    }

    #[test]
    fn a_thread_of_another_policy_is_left_alone() {
        let seen = alone(|| {
            let batch = libc::sched_param { sched_priority: 0 };
            // SAFETY: a valid parameter; of the calling thread alone.
            assert_eq!(unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const batch) }, 0);
            let before = slice_ns();
            set_prompt(true);
            (before, slice_ns(), attributes().unwrap().sched_policy)
        });
        assert_eq!((seen.0, seen.2), (seen.1, libc::SCHED_BATCH.cast_unsigned()));
    }
}
