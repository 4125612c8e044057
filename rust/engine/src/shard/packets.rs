//! MQTT: what a connection is given of a frame of packets.
//!
//! Who is given messages with QoS 0 and takes packets of any size shares the frame. Everybody else is given a copy of
//! some of its packets: as many as are within the connection's window, each with an id of its own, and marked if its
//! client may have been given it before.

use std::sync::Arc;

use smallvec::SmallVec;

use super::connection::{Cursor, STOPPED};
use super::schedule::Lane;
use super::window::Window;
use super::{Handle, NewAttachment, Shard, slot};
use crate::channel::Frame;
use crate::limits::OUTBOX_OWN_BYTES;
use crate::outbox::Outbox;
use crate::stats::Stats;
use crate::wire::{Envelope, Mqtt, Of, Packets, Wire};

/// How an attachment is given messages, where that is not with QoS 0 and nothing else to be said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscription {
    /// With QoS 1.
    pub acknowledged: bool,
    /// What was published as retained is marked so.
    pub retain: bool,
    /// Its identifier, which is put into each packet; 0 for none.
    pub id: u32,
    /// It may be continued later: where it stands is known, also with QoS 0.
    pub kept: bool,
    /// Of partitions, by their indices: what lies below these offsets may have been given before.
    pub given_before: SmallVec<[(u16, i64); 1]>,
}

impl Subscription {
    /// Whether where it stands is known.
    pub(super) fn is_followed(&self) -> bool {
        self.acknowledged || self.kept
    }

    /// What is written to a connection of this wire.
    pub(super) fn wire(&self, wire: Wire) -> Wire {
        let Wire::Mqtt(mqtt) = wire else { return wire };
        let Self { acknowledged, retain, id, .. } = *self;
        Wire::Mqtt(Mqtt { framed: mqtt.framed && !acknowledged, acknowledged, retain, subscription: id, ..mqtt })
    }

    fn may_have(&self, of: &Of) -> bool {
        self.given_before.iter().any(|&(partition, offset)| partition == of.partition && of.offset < offset)
    }
}

impl Shard {
    /// An MQTT connection's window, which whoever hears the client has too.
    pub fn set_window(&mut self, handle: Handle, window: Arc<Window>) {
        if let Some(connection) = self.connection(handle) {
            connection.window = Some(window);
        }
    }

    /// Whether a subscription is changed that is being given the same ring, and what it gave or will give is not
    /// acknowledged: whoever asked for the change read where it stood a while ago, and could not tell one message that is
    /// given twice. Where both are acknowledged what comes again has DUP set.
    pub(super) fn is_subscribed_again(&self, handle: Handle, new: &NewAttachment) -> bool {
        let Some(cursor) = self.cursor(handle, new.number).filter(|cursor| cursor.at != STOPPED) else { return false };
        let acknowledged = new.subscription.as_ref().is_some_and(|subscription| subscription.acknowledged);
        let is_mqtt = self.connections[slot(handle)].window.is_some();
        let same = self.groups.channel_of(cursor).is_some_and(|channel| channel.id == new.plan.channel.id);
        is_mqtt && same && !(acknowledged && cursor.is_acknowledged())
    }

    /// An MQTT connection takes no packets that are larger.
    pub fn limit_packets(&mut self, handle: Handle, packet_max: u32) {
        if let Some(connection) = self.connection(handle) {
            connection.packet_max = packet_max;
        }
    }

    /// An MQTT connection takes more messages: one that it was given is acknowledged.
    pub fn has_room(&mut self, handle: Handle) {
        if self.connection(handle).is_some() {
            self.queue(slot(handle), Lane::Backlogs);
        }
    }
}

/// What a connection takes.
pub(super) struct Takes<'a> {
    /// In WebSocket frames.
    pub(super) framed: bool,
    /// The largest packet.
    pub(super) packet_max: u32,
    pub(super) window: Option<&'a Window>,
}

/// Gives an attachment what it may be given of a frame, and moves its cursor behind that. Returns how many messages.
pub(super) fn give_packets(
    takes: &Takes<'_>,
    cursor: &mut Cursor,
    (frame, packets): (Frame, &Packets),
    outbox: &mut Outbox,
    stats: &Stats,
) -> u32 {
    let plain = Subscription::default();
    let subscription = cursor.special.as_ref().and_then(|special| special.subscription.as_deref()).unwrap_or(&plain);
    let from = cursor.at;
    if !subscription.acknowledged && packets.largest <= takes.packet_max as usize {
        outbox.push(frame.bytes);
        cursor.at = frame.to;
        if let Some(window) = takes.window.filter(|_| subscription.kept) {
            window.lock().stands(cursor.number, cursor.stand(), packets.list.iter().map(|packet| packet.of));
        }
        return frame.messages;
    }
    let source = &frame.bytes[packets.begin..];
    let mut copied = Envelope::with_capacity(takes.framed, source.len().min(OUTBOX_OWN_BYTES));
    let (mut end, mut count, mut to) = (0, 0, frame.to);
    let mut window = takes.window.map(Window::lock);
    for packet in &packets.list {
        let begin = std::mem::replace(&mut end, packet.end as usize);
        if packet.of.number < from {
            continue; // it was given what stands before
        }
        if end - begin > takes.packet_max as usize {
            stats.packets_too_large.add(1);
            continue;
        }
        if count > 0 && outbox.len() + copied.len() + end - begin > OUTBOX_OWN_BYTES {
            to = packet.of.number;
            break;
        }
        let mut issue = || window.as_mut()?.issue(cursor.number, &packet.of);
        let id = if packet.id_at == 0 { Some(0) } else { issue() };
        let Some(id) = id else {
            to = packet.of.number;
            break;
        };
        copied.copy(source, begin, packet, id, subscription.may_have(&packet.of));
        count += 1;
    }
    cursor.at = to;
    let given = packets.list.iter().map(|packet| packet.of).filter(|of| (from..to).contains(&of.number));
    if let Some(mut window) = window {
        window.stands(cursor.number, cursor.stand(), given);
    }
    if !copied.is_empty() {
        outbox.push(copied.close().0);
    }
    count
}
