//! What Python asks of the kernel's scheduler: see `fanout_io::sched`.

use fanout_io::sched;
use pyo3::prelude::*;

/// Has the calling thread and those it starts run soon after they wake, or as others do again.
#[pyfunction]
pub fn set_prompt(prompt: bool) {
    sched::set_prompt(prompt);
}

/// Offers the interpreter and the core to whoever waits for them.
#[pyfunction]
pub fn give_way(py: Python<'_>) {
    py.detach(sched::give_way);
}
