use mqtt_protocol_core::mqtt::packet::{Qos, SubEntry, SubOpts, v3_1_1, v5_0};
use proptest::prelude::*;

use super::*;

const LIMIT: usize = 1 << 16;

fn connect(version: u8) -> Vec<u8> {
    if version == 5 {
        v5_0::Connect::builder().client_id("c").unwrap().clean_start(true).build().unwrap().to_continuous_buffer()
    } else {
        v3_1_1::Connect::builder().client_id("c").unwrap().clean_session(true).build().unwrap().to_continuous_buffer()
    }
}

fn reader(version: u8) -> Reader {
    let mut reader = Reader::new(LIMIT);
    reader.feed(&connect(version));
    assert!(matches!(reader.take(), Some(Ok(Packet::Connect(_)))));
    reader
}

/// What becomes of one packet behind CONNECT.
fn behind_connect(version: u8, packet: &[u8]) -> Result<Packet, Fault> {
    let mut reader = reader(version);
    reader.feed(packet);
    reader.take().expect("a whole packet")
}

fn reason_of(version: u8, packet: &[u8]) -> u8 {
    behind_connect(version, packet).expect_err("a fault").reason
}

#[test]
fn connect_says_which_version_is_spoken() {
    for (level, version) in [(4, Version::V311), (5, Version::V5)] {
        assert_eq!(reader(level).version(), Some(version));
    }
}

#[test]
fn a_connect_with_a_fault_says_its_version_all_the_same() {
    for (level, version) in [(4, Version::V311), (5, Version::V5)] {
        let mut reader = Reader::new(LIMIT);
        let whole = connect(level);
        reader.feed(&[0x10, u8::try_from(whole.len()).unwrap() - 3]);
        reader.feed(&whole[2..whole.len() - 1]);
        assert!(matches!(reader.take(), Some(Err(_))));
        assert_eq!(reader.version(), Some(version));
    }
}

#[test]
fn packets_come_in_any_pieces_and_nothing_stays_behind() {
    let publish = v5_0::Publish::builder()
        .topic_name("a/b")
        .unwrap()
        .qos(Qos::AtLeastOnce)
        .packet_id(7)
        .payload("text")
        .build()
        .unwrap()
        .to_continuous_buffer();
    let mut reader = reader(5);
    for byte in publish.iter().chain(&publish) {
        reader.feed(&[*byte]);
        if let Some(taken) = reader.take() {
            let Ok(Packet::Publish(publish)) = taken else { panic!("{taken:?}") };
            assert_eq!((&*publish.topic, &*publish.payload, publish.packet_id), ("a/b", &b"text"[..], 7));
            assert_eq!((reader.held(), reader.held.capacity()), (0, 0));
        }
    }
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_the_bytes_come() {
    let mut reader = reader(4);
    reader.feed(&[0x30, 0xff, 0xff, 0xff, 0x7f]);
    assert_eq!(reader.take().unwrap().unwrap_err().reason, reason::TOO_LARGE);
    reader.feed(&[0; 100]);
    assert_eq!((reader.held(), reader.take()), (0, None));
}

#[test]
fn a_password_needs_no_user_name_with_version_5() {
    let with_name = v5_0::Connect::builder()
        .client_id("c")
        .unwrap()
        .user_name("")
        .unwrap()
        .password(b"secret".to_vec())
        .unwrap()
        .build()
        .unwrap()
        .to_continuous_buffer();
    let mut bytes = with_name.clone();
    let name_at = bytes.len() - 2 - 6 - 2;
    bytes.drain(name_at..name_at + 2);
    bytes[1] -= 2;
    bytes[9] &= 0x7f;
    for (bytes, name) in [(with_name, Some(String::new())), (bytes, None)] {
        let mut reader = Reader::new(LIMIT);
        reader.feed(&bytes);
        let Some(Ok(Packet::Connect(connect))) = reader.take() else { panic!("no CONNECT") };
        assert_eq!((connect.username, connect.password), (name, Some(b"secret".to_vec())));
    }
}

#[test]
fn what_is_not_the_first_packet_of_a_client_is_refused_by_its_first_byte() {
    for byte in [0x00, 0x11, 0x20, 0x30, 0xc0, 0xf0, b'G', 0x16] {
        let mut reader = Reader::new(LIMIT);
        reader.feed(&[byte]);
        assert!(reader.take().unwrap().is_err(), "{byte:#x}");
    }
}

#[test]
fn versions_that_are_not_spoken_are_told_from_what_is_no_mqtt() {
    let told = |body: &[u8]| {
        let mut reader = Reader::new(LIMIT);
        reader.feed(&[0x10, body.len() as u8]);
        reader.feed(body);
        (reader.take().unwrap().unwrap_err().reason, reader.version())
    };
    assert_eq!(told(b"\0\x06MQIsdp\x03\x02\0\x3c\0\x01a"), (reason::VERSION, None));
    assert_eq!(told(b"\0\x04MQTT\x03\x02\0\x3c\0\x01a"), (reason::VERSION, None));
    assert_eq!(told(b"\0\x04MQTT\x06\x02\0\x3c\0\0\x01a"), (reason::VERSION, Some(Version::V5)));
    assert_eq!(told(b"\0\x04MQTX\x04\x02\0\x3c\0\x01a"), (reason::PROTOCOL, None));
}

#[test]
fn connect_flags_have_to_fit_together() {
    for flags in [0x03, 0x0a, 0x22, 0x1e, 0x42] {
        let body = [&b"\0\x04MQTT\x04"[..], &[flags], b"\0\x3c\0\x01a\0\x01t\0\0\0\0"].concat();
        let mut reader = Reader::new(LIMIT);
        reader.feed(&[&[0x10, body.len() as u8], &body[..]].concat());
        assert_eq!(reader.take().unwrap().unwrap_err().reason, reason::MALFORMED, "{flags:#x}");
    }
}

#[test]
fn what_the_parser_lets_through_is_refused() {
    for version in [4, 5] {
        let none: &[u8] = if version == 5 { b"\0" } else { b"" };
        let packet = |first: u8, parts: &[&[u8]]| {
            let body = parts.concat();
            [&[first, body.len() as u8], &body[..]].concat()
        };
        let refused = [
            ("a wildcard in a topic", packet(0x30, &[b"\0\x03a/+", none]), reason::TOPIC),
            ("a NUL in a topic", packet(0x30, &[b"\0\x03a\0b", none]), reason::MALFORMED),
            ("an empty topic", packet(0x30, &[b"\0\0", none]), reason::PROTOCOL),
            ("DUP with QoS 0", packet(0x38, &[b"\0\x01a", none]), reason::MALFORMED),
            ("QoS 3", packet(0x36, &[b"\0\x01a\0\x01", none]), reason::MALFORMED),
            ("packet identifier 0", packet(0x32, &[b"\0\x01a\0\0", none]), reason::PROTOCOL),
            ("a surrogate in a topic", packet(0x30, &[b"\0\x03\xed\xa0\x80", none]), reason::MALFORMED),
            ("flags of SUBSCRIBE", packet(0x80, &[b"\0\x01", none, b"\0\x01a\0"]), reason::MALFORMED),
            ("flags of PUBREL", packet(0x60, &[b"\0\x01"]), reason::MALFORMED),
            ("SUBSCRIBE 0", packet(0x82, &[b"\0\0", none, b"\0\x01a\0"]), reason::PROTOCOL),
            ("an empty filter", packet(0x82, &[b"\0\x01", none, b"\0\0\0"]), reason::PROTOCOL),
            ("a hash within a level", packet(0x82, &[b"\0\x01", none, b"\0\x02a#\0"]), reason::FILTER),
            ("a hash before the end", packet(0x82, &[b"\0\x01", none, b"\0\x03#/a\0"]), reason::FILTER),
            ("a plus within a level", packet(0x82, &[b"\0\x01", none, b"\0\x04a/b+\0"]), reason::FILTER),
            ("QoS 3 asked for", packet(0x82, &[b"\0\x01", none, b"\0\x01a\x03"]), reason::MALFORMED),
            ("reserved options", packet(0x82, &[b"\0\x01", none, b"\0\x01a\xc0"]), reason::MALFORMED),
            ("no filter", packet(0x82, &[b"\0\x01", none]), reason::PROTOCOL),
            ("UNSUBSCRIBE of nothing", packet(0xa2, &[b"\0\x01", none]), reason::PROTOCOL),
            ("PINGREQ with a body", packet(0xc0, &[b"x"]), reason::MALFORMED),
            ("PUBACK of two words", packet(0x40, &[b"\0\x01\0\0\0\0"]), reason::MALFORMED),
            ("CONNACK of a client", packet(0x20, &[b"\0\0"]), reason::PROTOCOL),
            ("a second CONNECT", connect(version), reason::PROTOCOL),
            ("a length that need not be so long", vec![0xc0, 0x80, 0x00], reason::MALFORMED),
        ];
        for (what, bytes, code) in refused {
            assert_eq!(reason_of(version, &bytes), code, "{what}, version {version}");
        }
    }
}

#[test]
fn of_version_5_alone_the_same() {
    for (what, bytes, code) in [
        ("a subscription identifier in PUBLISH", &b"\x30\x06\0\x01a\x02\x0b\x01"[..], reason::PROTOCOL),
        ("a subscription identifier of 0", b"\x82\x09\0\x01\x02\x0b\x00\0\x01a\0", reason::PROTOCOL),
        ("PUBLISH without properties", b"\x30\x03\0\x01a", reason::MALFORMED),
        ("a NUL in a user property", b"\x30\x0b\0\x01a\x07\x26\0\x01\0\0\x01v", reason::MALFORMED),
        ("a wildcard in a response topic", b"\x30\x08\0\x01a\x04\x08\0\x01+", reason::TOPIC),
        ("an alias of 0", b"\x30\x07\0\x01a\x03\x23\0\0", reason::PROTOCOL),
    ] {
        assert_eq!(reason_of(5, bytes), code, "{what}");
    }
    assert_eq!(reason_of(4, b"\x82\x06\0\x01\0\x01a\x04"), reason::MALFORMED); // an option of version 5's
    assert_eq!(reason_of(4, b"\xf0\x00"), reason::MALFORMED); // AUTH
    for version in [4, 5] {
        assert!(behind_connect(version, b"\x40\x02\0\0").is_err()); // PUBACK of 0
    }
}

#[test]
fn authentication_data_needs_a_method() {
    let told = |said: &[u8]| {
        let body = [&b"\0\x04MQTT\x05\x02\0\x3c"[..], &[said.len() as u8], said, b"\0\x01c"].concat();
        let mut reader = Reader::new(LIMIT);
        reader.feed(&[&[0x10, body.len() as u8], &body[..]].concat());
        reader.take().unwrap().map_err(|fault| fault.reason)
    };
    assert_eq!(told(b"\x16\0\x01x"), Err(reason::PROTOCOL));
    let Ok(Packet::Connect(connect)) = told(b"\x16\0\x01x\x15\0\x01m") else { panic!("no CONNECT") };
    assert!(connect.authenticates);
}

#[test]
fn subscriptions_come_with_their_options() {
    let options = SubOpts::new().set_qos(Qos::AtLeastOnce).set_nl(true).set_rap(true);
    let bytes = v5_0::Subscribe::builder()
        .packet_id(3)
        .entries(vec![SubEntry::new("a/+/#", options).unwrap()])
        .build()
        .unwrap()
        .to_continuous_buffer();
    let Ok(Packet::Subscribe { packet_id: 3, entries, identifier: 0 }) = behind_connect(5, &bytes) else {
        panic!("another packet")
    };
    let [entry] = &entries[..] else { panic!("one entry") };
    assert_eq!((&*entry.filter, entry.qos), ("a/+/#", 1));
    assert!(entry.no_local && entry.retain_as_published);
}

proptest! {
    /// Whatever comes, in whatever pieces: no panic, nothing held beyond a packet, and the same packets.
    #[test]
    fn any_bytes_are_survived(
        version in prop_oneof![Just(4_u8), Just(5)],
        bytes in proptest::collection::vec(
            prop_oneof![Just(0_u8), Just(1), Just(2), Just(0x30), Just(0x32), Just(0x82), any::<u8>()], 0..200
        ),
        piece in 1_usize..20,
    ) {
        let mut whole = reader(version);
        whole.feed(&bytes);
        let expected: Vec<_> = std::iter::from_fn(|| whole.take()).collect();
        let mut reader = reader(version);
        let mut taken = Vec::new();
        for piece in bytes.chunks(piece) {
            reader.feed(piece);
            taken.extend(std::iter::from_fn(|| reader.take()));
            prop_assert!(reader.held() <= LIMIT);
        }
        prop_assert_eq!(taken, expected);
    }

    /// What is said to be so long is cut there, and what a valid packet becomes with one byte changed is survived.
    #[test]
    fn a_changed_byte_is_survived(at in 0_usize..60, byte in any::<u8>()) {
        let mut bytes = [
            connect(5),
            b"\x30\x11\0\x03a/b\x09\x01\x01\x26\0\x01k\0\x01vtwo".to_vec(),
            b"\x82\x09\0\x01\x02\x0b\x05\0\x01a\x01".to_vec(),
            b"\xe0\x02\x04\0".to_vec(),
        ].concat();
        let at = at % bytes.len();
        bytes[at] = byte;
        let mut reader = Reader::new(LIMIT);
        reader.feed(&bytes);
        while let Some(taken) = reader.take() {
            if let Ok(Packet::Publish(publish)) = taken {
                prop_assert!(!publish.topic.contains(['+', '#', '\0']));
                prop_assert!(publish.qos == 0 || publish.packet_id > 0);
            }
        }
    }
}
