//! From a packet's bytes to what it says, by way of `mqtt-protocol-core`.

use std::borrow::Cow;
use std::sync::Arc;

use mqtt_protocol_core::mqtt::packet::{Property, SubEntry, v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code::MqttError;

use crate::check;
use crate::packet::{Acknowledgement, Connect, Entry, Fault, Packet, Properties, Publish, Will, reason};

const PASSWORD: u8 = 0x40;
const USERNAME: u8 = 0x80;
const FLAGS_AT: usize = 7;

/// CONNECT of any version that is spoken.
pub fn connect(body: &[u8]) -> Result<Packet, Fault> {
    let version = check::connect_head(body)?;
    let parsed = if version == 5 { connect_v5(body)? } else { connect_v311(body)? };
    checked(Packet::Connect(Box::new(parsed)))
}

/// Any other packet of MQTT 3.1.1.
pub fn v311(first: u8, body: &[u8]) -> Result<Packet, Fault> {
    checked(match first >> 4 {
        3 => Packet::Publish(published_v311(first, body)?),
        4..=7 => match body {
            [high, low] => acknowledged(first, u16::from_be_bytes([*high, *low]), 0),
            _ => return Err(Fault::malformed("an acknowledgement of another length")),
        },
        8 => {
            let parsed = whole(body, v3_1_1::Subscribe::parse)?;
            let mut entries = Vec::with_capacity(parsed.entries().len());
            for entry in parsed.entries() {
                if entry.sub_opts().to_buffer()[0] > 2 {
                    return Err(Fault::malformed("reserved bits of the QoS are set"));
                }
                entries.push(subscribed(entry));
            }
            Packet::Subscribe { packet_id: parsed.packet_id(), entries, identifier: 0 }
        }
        10 => {
            let parsed = whole(body, v3_1_1::Unsubscribe::parse)?;
            let filters = parsed.entries().iter().map(|entry| entry.as_str().to_owned()).collect();
            Packet::Unsubscribe { packet_id: parsed.packet_id(), filters }
        }
        kind => empty(kind, body)?,
    })
}

/// One of the four acknowledgements of MQTT 5.0: the parser has a type for each, and no trait for what they share.
macro_rules! acknowledged_v5 {
    ($kind:ident, $first:expr, $body:expr) => {{
        let parsed = whole($body, v5_0::$kind::parse)?;
        acknowledged($first, parsed.packet_id(), parsed.reason_code().map_or(0, |code| code as u8))
    }};
}

/// Any other packet of MQTT 5.0.
pub fn v5(first: u8, body: &[u8]) -> Result<Packet, Fault> {
    checked(match first >> 4 {
        3 => Packet::Publish(published_v5(first, body)?),
        4 => acknowledged_v5!(Puback, first, body),
        5 => acknowledged_v5!(Pubrec, first, body),
        6 => acknowledged_v5!(Pubrel, first, body),
        7 => acknowledged_v5!(Pubcomp, first, body),
        8 => {
            let parsed = whole(body, v5_0::Subscribe::parse)?;
            Packet::Subscribe {
                packet_id: parsed.packet_id(),
                entries: parsed.entries().iter().map(subscribed).collect(),
                identifier: identifier(parsed.props())?,
            }
        }
        10 => {
            let parsed = whole(body, v5_0::Unsubscribe::parse)?;
            let filters = parsed.entries().iter().map(|entry| entry.as_str().to_owned()).collect();
            Packet::Unsubscribe { packet_id: parsed.packet_id(), filters }
        }
        14 => {
            let parsed = whole(body, v5_0::Disconnect::parse)?;
            let expiry = parsed.props().iter().flatten().find_map(|property| match property {
                Property::SessionExpiryInterval(value) => Some(value.val()),
                _ => None,
            });
            Packet::Disconnect { reason: parsed.reason_code().map_or(0, |code| code as u8), session_expiry: expiry }
        }
        15 => {
            whole(body, v5_0::Auth::parse)?;
            Packet::Auth
        }
        kind => empty(kind, body)?,
    })
}

/// A packet that says nothing but its type.
fn empty(kind: u8, body: &[u8]) -> Result<Packet, Fault> {
    if !body.is_empty() {
        return Err(Fault::malformed("a packet that should be empty"));
    }
    Ok(if kind == 12 { Packet::Ping } else { Packet::Disconnect { reason: 0, session_expiry: None } })
}

fn checked(packet: Packet) -> Result<Packet, Fault> {
    check::packet(&packet)?;
    Ok(packet)
}

fn whole<T>(body: &[u8], parse: impl FnOnce(&[u8]) -> Result<(T, usize), MqttError>) -> Result<T, Fault> {
    let (parsed, used) = parse(body).map_err(fault)?;
    if used == body.len() { Ok(parsed) } else { Err(Fault::malformed("more bytes than the packet has")) }
}

fn fault(error: MqttError) -> Fault {
    match error {
        MqttError::ProtocolError => Fault::protocol("the packet may not be like that"),
        MqttError::ClientIdentifierNotValid => Fault::new(reason::CLIENT_ID, "the client identifier cannot be read"),
        _ => Fault::malformed("the packet cannot be read"),
    }
}

fn acknowledged(first: u8, packet_id: u16, reason: u8) -> Packet {
    Packet::Acknowledgement(Acknowledgement { kind: check::kind_of(first), packet_id, reason })
}

fn subscribed(entry: &SubEntry) -> Entry {
    let options = entry.sub_opts();
    Entry {
        filter: entry.topic_filter().to_owned(),
        qos: options.qos() as u8,
        no_local: options.nl(),
        retain_as_published: options.rap(),
        retain_handling: options.rh() as u8,
    }
}

/// A SUBSCRIBE has one identifier at most, and that is not 0 (MQTT 5.0 §3.8.2.1.2).
fn identifier(properties: &[Property]) -> Result<u32, Fault> {
    let mut found = properties.iter().filter_map(|property| match property {
        Property::SubscriptionIdentifier(value) => Some(value.val()),
        _ => None,
    });
    match (found.next(), found.next()) {
        (None, _) => Ok(0),
        (Some(found @ 1..), None) => Ok(found),
        _ => Err(Fault::protocol("a subscription identifier that is 0, or two of them")),
    }
}

// -- PUBLISH --

fn published_v311(first: u8, body: &[u8]) -> Result<Publish, Fault> {
    let (parsed, _) = v3_1_1::Publish::parse(first & 15, Arc::from(body)).map_err(fault)?;
    Ok(Publish {
        topic: parsed.topic_name().to_owned(),
        payload: parsed.payload().as_slice().to_vec(),
        qos: parsed.qos() as u8,
        dup: parsed.dup(),
        retain: parsed.retain(),
        packet_id: parsed.packet_id().unwrap_or(0),
        alias: 0,
        properties: Properties::default(),
    })
}

fn published_v5(first: u8, body: &[u8]) -> Result<Publish, Fault> {
    let (parsed, _) = v5_0::Publish::parse(first & 15, Arc::from(body)).map_err(fault)?;
    let before = 2 + parsed.topic_name().len() + if parsed.packet_id().is_some() { 2 } else { 0 };
    if body.len() == before {
        return Err(Fault::malformed("PUBLISH ends before its properties"));
    }
    let mut alias = 0;
    for property in parsed.props() {
        match property {
            Property::SubscriptionIdentifier(_) => {
                return Err(Fault::protocol("a subscription identifier in a client's PUBLISH"));
            }
            Property::TopicAlias(value) => alias = value.val(),
            _ => {}
        }
    }
    Ok(Publish {
        topic: parsed.topic_name().to_owned(),
        payload: parsed.payload().as_slice().to_vec(),
        qos: parsed.qos() as u8,
        dup: parsed.dup(),
        retain: parsed.retain(),
        packet_id: parsed.packet_id().unwrap_or(0),
        alias,
        properties: said(parsed.props()),
    })
}

fn said(properties: &[Property]) -> Properties {
    let mut said = Properties::default();
    for property in properties {
        match property {
            Property::PayloadFormatIndicator(value) => said.utf8 = value.val() == 1,
            Property::MessageExpiryInterval(value) => said.expiry = Some(value.val()),
            Property::ContentType(value) => said.content_type = Some(value.val().to_owned()),
            Property::ResponseTopic(value) => said.response_topic = Some(value.val().to_owned()),
            Property::CorrelationData(value) => said.correlation = Some(value.val().to_vec()),
            Property::UserProperty(value) => said.user.push((value.key().to_owned(), value.val().to_owned())),
            _ => {}
        }
    }
    said
}

// -- CONNECT --

fn connect_v311(body: &[u8]) -> Result<Connect, Fault> {
    let parsed = whole(body, v3_1_1::Connect::parse)?;
    let will = parsed.will_topic().map(|topic| Will {
        topic: topic.to_owned(),
        payload: parsed.will_payload().unwrap_or_default().to_vec(),
        qos: parsed.will_qos() as u8,
        retain: parsed.will_retain(),
        delay: 0,
        properties: Properties::default(),
    });
    Ok(Connect {
        version: 4,
        client_id: parsed.client_id().to_owned(),
        clean: parsed.clean_session(),
        keep_alive: parsed.keep_alive(),
        username: parsed.user_name().map(str::to_owned),
        password: parsed.password().map(<[u8]>::to_vec),
        will,
        session_expiry: None,
        receive_maximum: u16::MAX,
        packet_maximum: 0,
        authenticates: false,
        wants_reasons: false,
    })
}

/// The parser refuses a password without a user name, which MQTT 5.0 allows (§3.1.2.9): there it is read from what the
/// parser leaves over of a CONNECT without the flag.
fn connect_v5(body: &[u8]) -> Result<Connect, Fault> {
    let lone = body[FLAGS_AT] & (PASSWORD | USERNAME) == PASSWORD;
    let mut body = Cow::Borrowed(body);
    if lone {
        body.to_mut()[FLAGS_AT] &= !PASSWORD;
    }
    let (parsed, used) = v5_0::Connect::parse(&body).map_err(fault)?;
    let rest = &body[used..];
    let password = match rest {
        [] if !lone => parsed.password().map(<[u8]>::to_vec),
        [high, low, password @ ..] if lone && password.len() == usize::from(u16::from_be_bytes([*high, *low])) => {
            Some(password.to_vec())
        }
        _ => return Err(Fault::malformed("CONNECT has another length than it says")),
    };
    let will = parsed.will_topic().map(|topic| Will {
        topic: topic.to_owned(),
        payload: parsed.will_payload().unwrap_or_default().to_vec(),
        qos: parsed.will_qos() as u8,
        retain: parsed.will_retain(),
        delay: parsed
            .will_props()
            .iter()
            .find_map(|property| match property {
                Property::WillDelayInterval(value) => Some(value.val()),
                _ => None,
            })
            .unwrap_or(0),
        properties: said(parsed.will_props()),
    });
    let mut connect = Connect {
        version: 5,
        client_id: parsed.client_id().to_owned(),
        clean: parsed.clean_start(),
        keep_alive: parsed.keep_alive(),
        username: parsed.user_name().map(str::to_owned),
        password,
        will,
        session_expiry: None,
        receive_maximum: u16::MAX,
        packet_maximum: 0,
        authenticates: false,
        wants_reasons: true,
    };
    let mut proves = false;
    for property in parsed.props() {
        match property {
            Property::SessionExpiryInterval(value) => connect.session_expiry = Some(value.val()),
            Property::ReceiveMaximum(value) => connect.receive_maximum = value.val(),
            Property::MaximumPacketSize(value) => connect.packet_maximum = value.val(),
            Property::AuthenticationMethod(_) => connect.authenticates = true,
            Property::AuthenticationData(_) => proves = true,
            Property::RequestProblemInformation(value) => connect.wants_reasons = value.val() == 1,
            _ => {}
        }
    }
    if proves && !connect.authenticates {
        return Err(Fault::protocol("authentication data without a method"));
    }
    Ok(connect)
}
