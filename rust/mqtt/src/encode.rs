//! What a server answers, printed by `mqtt-protocol-core`.

use mqtt_protocol_core::mqtt::packet::{
    AssignedClientIdentifier, ContentType, CorrelationData, MaximumPacketSize, MessageExpiryInterval, PayloadFormat,
    PayloadFormatIndicator, Properties as Printed, Property, Qos, ReasonString, ReceiveMaximum, ResponseTopic,
    ServerKeepAlive, ServerReference, SessionExpiryInterval, SharedSubscriptionAvailable, SubscriptionIdentifier,
    TopicAliasMaximum, UserProperty, WildcardSubscriptionAvailable, v3_1_1, v5_0,
};
use mqtt_protocol_core::mqtt::result_code::MqttError;

use crate::packet::{Kind, Publish};
use crate::reader::Version;

/// CONNACK's properties (MQTT 5.0 §3.2.2.3). What is None is not said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Greeting {
    /// Seconds that the session outlives the connection, where that is not what was asked for.
    pub session_expiry: Option<u32>,
    /// Publishes with QoS above 0 that may wait for their acknowledgement.
    pub receive_maximum: Option<u16>,
    /// The largest packet that is taken.
    pub packet_maximum: Option<u32>,
    /// The identifier of a client that gave none.
    pub client_id: Option<String>,
    /// Topic aliases that are taken.
    pub alias_maximum: Option<u16>,
    /// Seconds, where that is not what was asked for.
    pub keep_alive: Option<u16>,
    /// That filters may not hold wildcards.
    pub no_wildcards: bool,
    /// That subscriptions may not be shared.
    pub no_shared: bool,
}

/// One packet of a server's. Reason codes are MQTT 5.0's, or the return codes of MQTT 3.1.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// CONNACK.
    Connected {
        /// Whether the session is of an earlier connection.
        present: bool,
        /// 0: the client is let in.
        reason: u8,
        /// What else is said.
        greeting: Greeting,
    },
    /// SUBACK.
    Subscribed {
        /// Of the SUBSCRIBE.
        packet_id: u16,
        /// One for each filter.
        reasons: Vec<u8>,
    },
    /// UNSUBACK.
    Unsubscribed {
        /// Of the UNSUBSCRIBE.
        packet_id: u16,
        /// One for each filter.
        reasons: Vec<u8>,
    },
    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    Acknowledged {
        /// Which.
        kind: Kind,
        /// What it acknowledges.
        packet_id: u16,
        /// 0 for well.
        reason: u8,
    },
    /// PUBLISH, of what the engine does not deliver.
    Published {
        /// What it says.
        publish: Publish,
        /// Of the subscription; 0 for none.
        identifier: u32,
    },
    /// PINGRESP.
    Ping,
    /// DISCONNECT; nothing with MQTT 3.1.1, whose servers cannot say it.
    Disconnected {
        /// Why.
        reason: u8,
    },
}

/// The bytes of an answer. `text` says to people what a reason code means, `reference` where else to go.
///
/// Fails for a reason code that the packet cannot have.
pub fn encode(
    answer: &Answer,
    version: Version,
    text: Option<&str>,
    reference: Option<&str>,
) -> Result<Vec<u8>, MqttError> {
    match version {
        Version::V311 => encode_v311(answer),
        Version::V5 => encode_v5(answer, text, reference),
    }
}

fn encode_v311(answer: &Answer) -> Result<Vec<u8>, MqttError> {
    Ok(match answer {
        Answer::Connected { present, reason, .. } => v3_1_1::Connack::builder()
            .session_present(*present)
            .return_code((*reason).try_into().map_err(|_| MqttError::ValueOutOfRange)?)
            .build()?
            .to_continuous_buffer(),
        Answer::Subscribed { packet_id, reasons } => v3_1_1::Suback::builder()
            .packet_id(*packet_id)
            .return_codes(coded(reasons)?)
            .build()?
            .to_continuous_buffer(),
        Answer::Unsubscribed { packet_id, .. } => {
            v3_1_1::Unsuback::builder().packet_id(*packet_id).build()?.to_continuous_buffer()
        }
        Answer::Acknowledged { kind, packet_id, .. } => match kind {
            Kind::Ack => v3_1_1::Puback::builder().packet_id(*packet_id).build()?.to_continuous_buffer(),
            Kind::Received => v3_1_1::Pubrec::builder().packet_id(*packet_id).build()?.to_continuous_buffer(),
            Kind::Release => v3_1_1::Pubrel::builder().packet_id(*packet_id).build()?.to_continuous_buffer(),
            Kind::Complete => v3_1_1::Pubcomp::builder().packet_id(*packet_id).build()?.to_continuous_buffer(),
        },
        Answer::Published { publish, .. } => {
            let builder = v3_1_1::Publish::builder()
                .topic_name(&publish.topic)?
                .qos(qos(publish.qos)?)
                .retain(publish.retain)
                .payload(publish.payload.clone());
            let builder = if publish.qos > 0 { builder.packet_id(publish.packet_id) } else { builder };
            builder.build()?.to_continuous_buffer()
        }
        Answer::Ping => v3_1_1::Pingresp::builder().build()?.to_continuous_buffer(),
        Answer::Disconnected { .. } => Vec::new(),
    })
}

fn encode_v5(answer: &Answer, text: Option<&str>, reference: Option<&str>) -> Result<Vec<u8>, MqttError> {
    let mut said = Printed::new();
    if let Some(text) = text {
        said.push(Property::ReasonString(ReasonString::new(text)?));
    }
    if let Some(reference) = reference {
        said.push(Property::ServerReference(ServerReference::new(reference)?));
    }
    Ok(match answer {
        Answer::Connected { present, reason, greeting } => {
            said.extend(greeted(greeting)?);
            v5_0::Connack::builder()
                .session_present(*present)
                .reason_code((*reason).try_into().map_err(|_| MqttError::ValueOutOfRange)?)
                .props(said)
                .build()?
                .to_continuous_buffer()
        }
        Answer::Subscribed { packet_id, reasons } => v5_0::Suback::builder()
            .packet_id(*packet_id)
            .reason_codes(coded(reasons)?)
            .props(said)
            .build()?
            .to_continuous_buffer(),
        Answer::Unsubscribed { packet_id, reasons } => v5_0::Unsuback::builder()
            .packet_id(*packet_id)
            .reason_codes(coded(reasons)?)
            .props(said)
            .build()?
            .to_continuous_buffer(),
        Answer::Acknowledged { kind, packet_id, reason } => acknowledged(*kind, *packet_id, *reason, said)?,
        Answer::Published { publish, identifier } => {
            let builder = v5_0::Publish::builder()
                .topic_name(&publish.topic)?
                .qos(qos(publish.qos)?)
                .retain(publish.retain)
                .payload(publish.payload.clone())
                .props(published(publish, *identifier)?);
            let builder = if publish.qos > 0 { builder.packet_id(publish.packet_id) } else { builder };
            builder.build()?.to_continuous_buffer()
        }
        Answer::Ping => v5_0::Pingresp::builder().build()?.to_continuous_buffer(),
        Answer::Disconnected { reason } => v5_0::Disconnect::builder()
            .reason_code((*reason).try_into().map_err(|_| MqttError::ValueOutOfRange)?)
            .props(said)
            .build()?
            .to_continuous_buffer(),
    })
}

/// Without its reason where that is 0: two bytes less, and the most frequent of all.
fn acknowledged(kind: Kind, packet_id: u16, reason: u8, said: Printed) -> Result<Vec<u8>, MqttError> {
    macro_rules! printed {
        ($packet:ty) => {{
            let mut builder = <$packet>::builder().packet_id(packet_id);
            if reason != 0 {
                builder = builder.reason_code(reason.try_into().map_err(|_| MqttError::ValueOutOfRange)?).props(said);
            }
            builder.build()?.to_continuous_buffer()
        }};
    }
    Ok(match kind {
        Kind::Ack => printed!(v5_0::Puback),
        Kind::Received => printed!(v5_0::Pubrec),
        Kind::Release => printed!(v5_0::Pubrel),
        Kind::Complete => printed!(v5_0::Pubcomp),
    })
}

fn coded<T: TryFrom<u8>>(reasons: &[u8]) -> Result<Vec<T>, MqttError> {
    reasons.iter().map(|&reason| T::try_from(reason).map_err(|_| MqttError::ValueOutOfRange)).collect()
}

fn greeted(greeting: &Greeting) -> Result<Printed, MqttError> {
    let mut said = Printed::new();
    if let Some(value) = greeting.session_expiry {
        said.push(Property::SessionExpiryInterval(SessionExpiryInterval::new(value)?));
    }
    if let Some(value) = greeting.receive_maximum {
        said.push(Property::ReceiveMaximum(ReceiveMaximum::new(value)?));
    }
    if let Some(value) = greeting.packet_maximum {
        said.push(Property::MaximumPacketSize(MaximumPacketSize::new(value)?));
    }
    if let Some(value) = &greeting.client_id {
        said.push(Property::AssignedClientIdentifier(AssignedClientIdentifier::new(value)?));
    }
    if let Some(value) = greeting.alias_maximum {
        said.push(Property::TopicAliasMaximum(TopicAliasMaximum::new(value)?));
    }
    if let Some(value) = greeting.keep_alive {
        said.push(Property::ServerKeepAlive(ServerKeepAlive::new(value)?));
    }
    if greeting.no_wildcards {
        said.push(Property::WildcardSubscriptionAvailable(WildcardSubscriptionAvailable::new(0)?));
    }
    if greeting.no_shared {
        said.push(Property::SharedSubscriptionAvailable(SharedSubscriptionAvailable::new(0)?));
    }
    Ok(said)
}

fn qos(number: u8) -> Result<Qos, MqttError> {
    Qos::try_from(number).map_err(|_| MqttError::InvalidQos)
}

fn published(publish: &Publish, identifier: u32) -> Result<Printed, MqttError> {
    let (said, mut printed) = (&publish.properties, Printed::new());
    if said.utf8 {
        printed.push(Property::PayloadFormatIndicator(PayloadFormatIndicator::new(PayloadFormat::String)?));
    }
    if let Some(value) = said.expiry {
        printed.push(Property::MessageExpiryInterval(MessageExpiryInterval::new(value)?));
    }
    if let Some(value) = &said.content_type {
        printed.push(Property::ContentType(ContentType::new(value)?));
    }
    if let Some(value) = &said.response_topic {
        printed.push(Property::ResponseTopic(ResponseTopic::new(value)?));
    }
    if let Some(value) = &said.correlation {
        printed.push(Property::CorrelationData(CorrelationData::new(value.clone())?));
    }
    if identifier > 0 {
        printed.push(Property::SubscriptionIdentifier(SubscriptionIdentifier::new(identifier)?));
    }
    for (name, value) in &said.user {
        printed.push(Property::UserProperty(UserProperty::new(name, value)?));
    }
    Ok(printed)
}
