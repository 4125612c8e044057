//! What MQTT connections have of their own: their windows, and how their attachments are given messages.

use fanout_engine::partition::Partition;
use fanout_engine::shard::{Handle, Subscription};
use fanout_io::port::Command;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::core::guarded;
use crate::engine::Engine;

/// How an attachment is given messages.
#[pyclass(module = "fanout._engine", frozen)]
pub struct Mqtt {
    subscription: Subscription,
    given_before: Option<String>,
}

/// The largest number that a subscription may have.
const SUBSCRIPTION_MAX: u32 = 268_435_455;

#[pymethods]
impl Mqtt {
    #[new]
    #[pyo3(signature = (*, qos=0, subscription_id=0, retain_as_published=false, kept=false, dup_until=None))]
    fn new(
        qos: u8,
        subscription_id: u32,
        retain_as_published: bool,
        kept: bool,
        dup_until: Option<String>,
    ) -> PyResult<Self> {
        if qos > 1 || subscription_id > SUBSCRIPTION_MAX {
            return Err(PyValueError::new_err("qos is 0 or 1, and an identifier has 28 bits"));
        }
        let subscription = Subscription {
            acknowledged: qos == 1,
            retain: retain_as_published,
            id: subscription_id,
            kept,
            ..Subscription::default()
        };
        Ok(Self { subscription, given_before: dup_until })
    }
}

impl Mqtt {
    /// For an attachment to this channel; none if there is nothing to be said.
    pub fn of(&self, engine: &Engine, channel: &str) -> Option<Box<Subscription>> {
        let mut subscription = self.subscription.clone();
        if let Some(text) = self.given_before.as_deref().filter(|_| subscription.acknowledged) {
            let places = guarded(|| engine.core.hub.places(channel, Some(text))).unwrap_or_default();
            let index = |partition: &Partition| partition.index;
            subscription.given_before = places.iter().map(|place| (index(&place.partition), place.offset)).collect();
        }
        (subscription != Subscription::default()).then(|| Box::new(subscription))
    }
}

#[pymethods]
impl Engine {
    fn window(&self, connection: Handle, receive_maximum: u16, packet_max: u32) {
        if let Some(window) = self.core.window(connection) {
            window.set_maximum(receive_maximum);
        }
        let packet_max = if packet_max == 0 { u32::MAX } else { packet_max };
        self.core.command(connection, Command::PacketMax(connection, packet_max));
    }

    /// A packet id for a message that the loop sends itself; 0 if the client takes no more now.
    fn packet_id(&self, connection: Handle) -> u16 {
        self.core.window(connection).and_then(|window| window.packet_id()).unwrap_or(0)
    }

    /// The loop has sent all that `packet_id` had no place for.
    fn window_free(&self, connection: Handle) {
        if self.core.window(connection).is_some_and(|window| window.release()) {
            self.core.command(connection, Command::Room(connection));
        }
    }

    /// Attachment, the position behind what is acknowledged, and behind what was given if that is another; of all, or of
    /// one attachment.
    fn standing(&self, connection: Handle, attachment: Option<u32>) -> Vec<(u32, String, Option<String>)> {
        let Some(window) = self.core.window(connection) else { return Vec::new() };
        guarded(|| {
            let all = window.followed(attachment);
            let told = all.iter().map(|followed| self.core.hub.standing(followed));
            told.map(|standing| (standing.number, standing.acknowledged, standing.given)).collect()
        })
    }
}
