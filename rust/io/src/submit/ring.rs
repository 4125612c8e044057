//! A batch of writes in one system call, through `io_uring`.
//!
//! Every write has `MSG_DONTWAIT`, with which the kernel carries a request out while it is submitted and neither parks it
//! nor hands it to a worker. So the answers of a batch are there when the call returns, and the locks taken for it are
//! held no longer than as many single calls would take. Each write is answered: none is taken for done.

use std::io;

use io_uring::types::Fd;
use io_uring::{IoUring, opcode};
use smallvec::SmallVec;

use super::{Write, Written};
use crate::limits::WRITES_PER_BATCH;
use crate::sys::{SEND_FLAGS, message};

/// A submission queue of its own for one thread.
pub struct Ring {
    ring: IoUring,
    /// Whether the thread that submits has begun to.
    enabled: bool,
}

impl Ring {
    /// Fails where the kernel is older than 6.1 or `io_uring` is forbidden.
    pub(super) fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_r_disabled() // until the first batch: the thread that enables it is the one that may submit
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .build(WRITES_PER_BATCH as u32)?;
        Ok(Self { ring, enabled: false })
    }

    /// Writes a batch. After an error, what is not in `written` was not submitted and never will be.
    pub(super) fn write(
        &mut self,
        writes: &[Write<'_>],
        written: &mut Vec<Written>,
        calls: &mut usize,
    ) -> io::Result<()> {
        if !self.enabled {
            self.ring.submitter().register_enable_rings()?;
            self.enabled = true;
        }
        let mut held: SmallVec<[_; WRITES_PER_BATCH]> = SmallVec::new();
        let mut messages: SmallVec<[libc::msghdr; WRITES_PER_BATCH]> = SmallVec::new();
        messages.reserve(writes.len()); // they are pointed to, and must not move
        let mut queue = self.ring.submission();
        for (index, write) in writes.iter().enumerate() {
            let Some(open) = write.socket.hold() else {
                written.push(write.came_to(Err(io::ErrorKind::NotConnected.into())));
                continue;
            };
            let fd = Fd(open.fd());
            held.push(open);
            let entry = if let [slice] = &write.slices[..] {
                opcode::Send::new(fd, slice.as_ptr(), slice.len() as u32).flags(SEND_FLAGS).build()
            } else {
                messages.push(message(&write.slices));
                opcode::SendMsg::new(fd, &raw const messages[messages.len() - 1]).flags(SEND_FLAGS as u32).build()
            };
            // SAFETY: slices, messages and locks outlive the submission, which ends in this function.
            unsafe { queue.push(&entry.user_data(index as u64)) }.expect("a queue has room for a batch");
        }
        drop(queue);
        let mut waiting = held.len();
        while waiting > 0 {
            *calls += 1;
            let outcome = self.ring.submit_and_wait(waiting);
            for entry in self.ring.completion() {
                let result = entry.result();
                let sent = if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result as usize) };
                written.push(writes[entry.user_data() as usize].came_to(sent));
                waiting -= 1;
            }
            match outcome {
                Err(error) if waiting > 0 && error.kind() != io::ErrorKind::Interrupted => {
                    if self.ring.submission().len() != waiting {
                        // A lock whose write may still be carried out cannot be let go, not even by unwinding.
                        eprintln!("io_uring keeps writes that it was told not to keep");
                        std::process::abort();
                    }
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(())
    }
}
