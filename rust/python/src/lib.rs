//! What Python and Cython see of the engine.
//!
//! [`engine`] is a class for what is rare: construction, questions, statistics. [`table`] is a table of C functions in
//! a capsule for what happens per batch or per frame, a tenth of the cost. [`core`] is what both stand on.

mod asked;
mod births;
mod checkpoints;
mod core;
mod cursor;
mod engine;
mod events;
mod messages;
mod mqtt;
mod replay;
mod rules;
mod sched;
mod table;
mod windows;

use pyo3::prelude::*;

#[pymodule]
mod _engine {
    #[pymodule_export]
    use super::checkpoints::Checkpoints;
    #[pymodule_export]
    use super::cursor::Cursor;
    #[pymodule_export]
    use super::engine::{Engine, Filter, Plan, message_serial, summary_shown};
    #[pymodule_export]
    use super::mqtt::{MqttReader, mqtt_encode};
    #[pymodule_export]
    use super::replay::Replay;
    #[pymodule_export]
    use super::sched::{give_way, set_prompt};
    #[pymodule_export]
    use super::windows::Mqtt;

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("DEDUP_WINDOW_MS", fanout_engine::limits::DEDUP_WINDOW_MS)?;
        module.add("_c_api", super::table::capsule(module.py())?)
    }
}
