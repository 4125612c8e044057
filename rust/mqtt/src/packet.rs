//! What a client says, as values.

/// Reason codes of MQTT 5.0 §2.4 by which a connection is ended here.
pub mod reason {
    /// The bytes are no packet.
    pub const MALFORMED: u8 = 0x81;
    /// A packet that may not come now, or not with this in it.
    pub const PROTOCOL: u8 = 0x82;
    /// CONNECT names a version that is not spoken.
    pub const VERSION: u8 = 0x84;
    /// A client identifier that is none.
    pub const CLIENT_ID: u8 = 0x85;
    /// A filter that is none.
    pub const FILTER: u8 = 0x8f;
    /// A topic that is none.
    pub const TOPIC: u8 = 0x90;
    /// A topic alias that was not offered.
    pub const ALIAS: u8 = 0x94;
    /// A packet beyond the limit.
    pub const TOO_LARGE: u8 = 0x95;
}

/// Why a client is not heard any more: a reason code, and words for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// One of [`reason`].
    pub reason: u8,
    /// What is wrong.
    pub text: &'static str,
}

impl Fault {
    /// For this reason.
    pub const fn new(reason: u8, text: &'static str) -> Self {
        Self { reason, text }
    }

    /// Bytes that are no packet.
    pub const fn malformed(text: &'static str) -> Self {
        Self::new(reason::MALFORMED, text)
    }

    /// A packet that may not be.
    pub const fn protocol(text: &'static str) -> Self {
        Self::new(reason::PROTOCOL, text)
    }
}

/// Which of the acknowledgements, by their packet types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// PUBACK.
    Ack = 4,
    /// PUBREC.
    Received = 5,
    /// PUBREL.
    Release = 6,
    /// PUBCOMP.
    Complete = 7,
}

/// One packet of a client's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// CONNECT.
    Connect(Box<Connect>),
    /// PUBLISH.
    Publish(Publish),
    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    Acknowledgement(Acknowledgement),
    /// SUBSCRIBE.
    Subscribe {
        /// Its identifier.
        packet_id: u16,
        /// One at least.
        entries: Vec<Entry>,
        /// The subscriptions' identifier; 0 for none.
        identifier: u32,
    },
    /// UNSUBSCRIBE.
    Unsubscribe {
        /// Its identifier.
        packet_id: u16,
        /// One at least.
        filters: Vec<String>,
    },
    /// PINGREQ.
    Ping,
    /// DISCONNECT.
    Disconnect {
        /// Its reason code; 0 where it says none.
        reason: u8,
        /// How long the session is to outlive the connection, in s, if it says so.
        session_expiry: Option<u32>,
    },
    /// AUTH.
    Auth,
}

/// CONNECT (MQTT 5.0 §3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// 4 for MQTT 3.1.1, 5 for MQTT 5.0.
    pub version: u8,
    /// May be empty.
    pub client_id: String,
    /// Whether an earlier session is forgotten.
    pub clean: bool,
    /// Seconds; 0 for none.
    pub keep_alive: u16,
    /// None: not given.
    pub username: Option<String>,
    /// None: not given.
    pub password: Option<Vec<u8>>,
    /// What is published if the client is lost.
    pub will: Option<Will>,
    /// Seconds that the session outlives the connection, if it says so.
    pub session_expiry: Option<u32>,
    /// Deliveries with QoS 1 that may wait for their PUBACK.
    pub receive_maximum: u16,
    /// The largest packet that it takes; 0: any.
    pub packet_maximum: u32,
    /// Whether it asks for an authentication of its own.
    pub authenticates: bool,
    /// Whether reason strings may be sent.
    pub wants_reasons: bool,
}

/// The will of a CONNECT (MQTT 5.0 §3.1.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// A topic's name.
    pub topic: String,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Whether it is to be retained.
    pub retain: bool,
    /// Seconds between the loss and the publishing.
    pub delay: u32,
    /// What else it says.
    pub properties: Properties,
}

/// PUBLISH (MQTT 5.0 §3.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// A topic's name; empty only with an alias.
    pub topic: String,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Whether it may have been sent before.
    pub dup: bool,
    /// Whether it is to be retained.
    pub retain: bool,
    /// 0 with QoS 0.
    pub packet_id: u16,
    /// 0 for none.
    pub alias: u16,
    /// What else it says.
    pub properties: Properties,
}

/// What a message says beside its payload (MQTT 5.0 §3.3.2.3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// Whether the payload is said to be UTF-8.
    pub utf8: bool,
    /// Seconds.
    pub expiry: Option<u32>,
    /// A media type, most often.
    pub content_type: Option<String>,
    /// Where an answer is expected.
    pub response_topic: Option<String>,
    /// By which the answer is told apart.
    pub correlation: Option<Vec<u8>>,
    /// Names and values, in order.
    pub user: Vec<(String, String)>,
}

/// An acknowledgement (MQTT 5.0 §3.4 to §3.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Which.
    pub kind: Kind,
    /// What it acknowledges.
    pub packet_id: u16,
    /// Its reason code; 0 where it says none.
    pub reason: u8,
}

/// One filter of a SUBSCRIBE with its options (MQTT 5.0 §3.8.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// A topic filter.
    pub filter: String,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Whether its own messages are kept from the client.
    pub no_local: bool,
    /// Whether deliveries say RETAIN as the publish did.
    pub retain_as_published: bool,
    /// 0, 1 or 2.
    pub retain_handling: u8,
}
