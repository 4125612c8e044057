"""One typed configuration: every option is declared, documented and checked here, and nowhere else.

The command line, the environment, the TOML file and the reference pages are made from `Config`; a program that embeds a
`Server` makes one by hand. Values stay as users write them (`history="2m"`), so that they can be printed back; what the
code computes with is derived (`history_ms`). A value that cannot be right is refused where the object is made, with one
line that names the option, the value and what would be right.
"""

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from fanout.errors import ConfigError

__all__ = [
    "HISTORY_MAX_MS",
    "MASK",
    "RETENTION_MS",
    "Config",
    "RegistryAddress",
    "is_loopback",
    "masked_url",
    "parse_duration",
]

UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
HISTORY_MIN_MS = UNITS_MS["s"]  # a shorter one is over before any client is back
HISTORY_MAX_MS = 72 * UNITS_MS["h"]  # the longest history of the protocol; longer ones belong into the log's readers
RETENTION_MS = 72 * UNITS_MS["h"]
RETENTION_MAX_MS = 8760 * UNITS_MS["h"]
DRAIN_MAX_MS = UNITS_MS["h"]
MASK = "********"  # stands where a secret is not shown
SECRET_MIN = 16  # bytes of the key of a position's MAC: less can be searched through


def parse_duration(text: str) -> int:
    """Milliseconds of a duration such as `500ms`, `90s`, `2m` or `72h`.

    Raises ValueError with what would be right.
    """
    match = re.fullmatch(r"(\d{1,9})(ms|s|m|h)", text)
    if match is None:
        raise ValueError("not a duration; give a whole number and a unit, like 500ms, 90s, 2m or 72h")
    return int(match[1]) * UNITS_MS[match[2]]


class RegistryAddress(NamedTuple):
    """Where a schema registry is, and the settings of confluent-kafka's client for it."""

    url: str
    settings: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that one node needs to know. Immutable; raises ConfigError for what cannot be right."""

    kafka: str | None = None
    """HOST:PORT[,HOST:PORT...], bootstrap servers of a Kafka cluster. Without it messages live in the embedded log."""

    kafka_setting: tuple[str, ...] = field(default=(), repr=False)
    """NAME=VALUE, a setting of the Kafka client such as security.protocol=SASL_SSL (librdkafka's names). Repeatable."""

    route: tuple[str, ...] = ()
    """TOPIC=CHANNEL, what of the log is sent to whom. CHANNEL is text with #{topic}, #{key}, #{header.NAME} or
    #{value.FIELD} in it. Repeatable. Without it the topic that clients publish to is routed by its keys."""

    rules: Path | None = None
    """TOML file of [[route]] tables, which say more than --route can and come behind it, and of [[publish]] tables."""

    connector: Path | None = None
    """JSON file, the configuration of an Ably Kafka Connector: it becomes routes, which come behind the others.
    `fanout check` says what each of its properties becomes."""

    schema_registry: str | None = field(default=None, repr=False)
    """URL[,URL...], a Confluent-compatible schema registry, for rules that read avro, protobuf or json-schema."""

    schema_registry_setting: tuple[str, ...] = field(default=(), repr=False)
    """NAME=VALUE, a setting of confluent-kafka's registry client such as basic.auth.user.info=NAME:PASSWORD or
    ssl.ca.location=FILE. Repeatable."""

    publish_topic: str | None = None
    """Topic that clients publish to, fanout.messages unless given. It is also sent to subscribers, unless --route is
    given along with it: then exactly the routes are."""

    linger: tuple[str, ...] = ()
    """TOPIC=TIME, how long a message of that topic may be held so that more leave with it in one write, like
    ticks=20ms; at most 1s. Repeatable. Without it nothing is held: what comes while others are written to leaves
    together."""

    mutable: tuple[str, ...] = ()
    """NAMESPACE, the part of a channel's name before its first colon: messages there can be updated, deleted, appended
    to and annotated. Repeatable."""

    host: str = "127.0.0.1"
    """Address to listen on. 0.0.0.0 lets other machines in."""

    port: int = 8080
    """Port to listen on; 0 takes a free one."""

    mqtt_port: int | None = None
    """Port on which MQTT is spoken, over TLS if --tls-cert is given; 0 takes a free one. Without it MQTT is spoken over
    WebSocket on the common port alone."""

    mqtt_separator: str = "/"
    """The character between the levels of channels' names, such as a colon: MQTT's topics have / in its place, and it
    in the place of /, so that wildcards find levels."""

    mqtt_server_reference: str | None = None
    """HOST:PORT, where MQTT 5.0 clients are told to go when this node stops."""

    tls_cert: Path | None = None
    """PEM file of a certificate, with the chain behind it, to speak TLS on the port: https:// and wss://. With
    --tls-key. SIGHUP reads both files again."""

    tls_key: Path | None = None
    """PEM file of that certificate's key, not encrypted."""

    key: tuple[str, ...] = field(default=(), repr=False)
    """appId.keyId:secret[=CAPABILITY], an API key; CAPABILITY is JSON like {"chat:*":["subscribe"]}, everything unless
    given. Repeatable. Without it one is made and kept in the data directory."""

    revocable: tuple[str, ...] = ()
    """appId.keyId, a key whose tokens can be revoked before their time; they live for an hour at most. Repeatable."""

    jwks: tuple[str, ...] = ()
    """URL, https: a document of public keys (RFC 7517) of an identity provider whose JWTs are accepted, if they say
    x-ably-capability. Repeatable."""

    secret: str | None = field(default=None, repr=False)
    """Secret that seals positions, connection keys and tokens; nodes of one log need the same. At least 16 bytes.
    Without it one is made and kept in the data directory."""

    data: Path = Path("fanout-data")
    """Directory of the embedded log and of what was generated: the key and the secret."""

    retention: str | None = None
    """How long the embedded log keeps messages, from 1m to 8760h; 72h unless given."""

    retention_mib: int | None = None
    """How large the embedded log may become, in MiB: then the oldest messages are deleted, whatever their age. As large
    as the disk unless given."""

    history: str = "2m"
    """How far back a client can resume and look. From 1s to 72h."""

    history_mib: int = 512
    """Memory for that history, in MiB. When it is used up the oldest messages go first, whatever their age."""

    presence_members: int = 1_000
    """Presence members that one channel can have; the next one is refused. Every subscriber is sent them all."""

    io_threads: int = 1
    """Threads that write to sockets. 0: the event loop does it, which suits a host with one core."""

    max_connections: int | None = None
    """Clients at a time; the next one is answered with 503. As many as there are file descriptors (ulimit -n) unless
    given, and never more."""

    sandbox: bool = False
    """Lets test suites make apps with keys of their own (POST /apps), without credentials. Only on an address that no
    other machine can reach."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What the command line logs to stderr. A program that embeds a server sets up its logs itself."""

    drain: str = "10s"
    """When the node stops, its clients are sent away one after another over this time, so that they do not all
    reconnect at once."""

    def __post_init__(self) -> None:
        """Refuses what cannot be right."""
        object.__setattr__(self, "data", Path(self.data))  # programs like to give text
        for option in ("tls_cert", "tls_key", "rules", "connector"):
            if getattr(self, option) is not None:
                object.__setattr__(self, option, Path(getattr(self, option)))
        if (self.tls_cert is None) != (self.tls_key is None):
            given, missing = ("tls-key", "tls-cert") if self.tls_cert is None else ("tls-cert", "tls-key")
            raise ConfigError(f"{given} is given, but {missing} is not: TLS needs a certificate and its key")
        if self.kafka is not None:
            _check_bootstrap(self.kafka)
        elif self.kafka_setting:
            raise ConfigError("kafka-setting is given, but kafka is not: name the cluster, like --kafka localhost:9092")
        self._check_retention()
        for setting in self.kafka_setting:
            name, equals, _ = setting.partition("=")
            if not name or not equals:
                raise _wrong("kafka-setting", _beginning(setting), "write NAME=VALUE, like security.protocol=SSL")
        if self.schema_registry is not None and not all(map(_is_http, self.schema_registry.split(","))):
            raise ConfigError(
                "schema-registry is no URL: give one like http://localhost:8081"
            )  # it may have a password
        for setting in self.schema_registry_setting:
            name, equals, _ = setting.partition("=")
            if not name or not equals or name in ("url", "timeout", "max.retries"):
                raise _wrong(
                    "schema-registry-setting", _beginning(setting), "write NAME=VALUE, like ssl.ca.location=ca.pem"
                )
        if self.sandbox and not is_loopback(self.host):
            raise _wrong("host", self.host, "with --sandbox give an address of this machine alone, like 127.0.0.1")
        for namespace in self.mutable:
            if re.fullmatch(r"[^:\[\n][^:\n]*", namespace) is None:
                raise _wrong(
                    "mutable", namespace, "give what stands before the first colon of a channel's name, like chat"
                )
        if not self.host:
            raise _wrong("host", self.host, "give an address, like 127.0.0.1")
        _check_range("port", self.port, 0, 65_535)
        if self.mqtt_port is not None:
            _check_range("mqtt-port", self.mqtt_port, 0, 65_535)
            if self.mqtt_port and self.mqtt_port == self.port:
                raise _wrong("mqtt-port", self.mqtt_port, "give another one than port")
        if re.fullmatch(r"[^\s+#\[\]\x00-\x1f]", self.mqtt_separator) is None:
            raise _wrong("mqtt-separator", self.mqtt_separator, "give one character, like / or :")
        for name in self.revocable:
            if ":" in name:
                raise _wrong("revocable", _beginning(name), "give the part of a key before the colon, and no more")
        for url in self.jwks:
            _check_key_set(url)
        if self.secret is not None and len(self.secret.encode()) < SECRET_MIN:
            raise ConfigError(
                f"secret is too short: give at least {SECRET_MIN} bytes, like those of `openssl rand -hex 32`"
            )
        _check_duration("history", self.history, HISTORY_MIN_MS, HISTORY_MAX_MS, "from 1s to 72h")
        _check_range("history-mib", self.history_mib, 1, 1 << 20)
        _check_range("presence-members", self.presence_members, 1, 100_000)
        _check_range("io-threads", self.io_threads, 0, 16)
        if self.max_connections is not None:
            _check_range("max-connections", self.max_connections, 1, 1_000_000)
        _check_duration("drain", self.drain, 0, DRAIN_MAX_MS, "from 0s to 1h")

    def _check_retention(self) -> None:
        for option in ("retention", "retention_mib"):
            if self.kafka is not None and getattr(self, option) is not None:
                raise ConfigError(
                    f"{option.replace('_', '-')} is given, and so is kafka: it is the embedded log's; a topic of Kafka"
                    " has retention.ms and retention.bytes of its own"
                )
        if self.retention is not None:
            _check_duration("retention", self.retention, UNITS_MS["m"], RETENTION_MAX_MS, "from 1m to 8760h")
        if self.retention_mib is not None:
            _check_range("retention-mib", self.retention_mib, 1, 1 << 30)

    @property
    def retention_ms(self) -> int:
        """How long the embedded log keeps messages, in milliseconds."""
        return RETENTION_MS if self.retention is None else parse_duration(self.retention)

    @property
    def retention_bytes(self) -> int | None:
        """How large the embedded log may become, in bytes."""
        return None if self.retention_mib is None else self.retention_mib << 20

    @property
    def kafka_settings(self) -> dict[str, str]:
        """The Kafka client's settings by name, `bootstrap.servers` among them; empty without Kafka."""
        if self.kafka is None:
            return {}
        settings = {"bootstrap.servers": self.kafka}
        for setting in self.kafka_setting:
            name, _, value = setting.partition("=")
            settings[name] = value
        return settings

    @property
    def schema_registry_settings(self) -> dict[str, str]:
        """The settings of the schema registry's client by name."""
        return {name: value for name, _, value in (text.partition("=") for text in self.schema_registry_setting)}

    @property
    def history_ms(self) -> int:
        """The history window in milliseconds."""
        return parse_duration(self.history)

    @property
    def history_bytes(self) -> int:
        """The memory for the history, in bytes."""
        return self.history_mib << 20

    @property
    def drain_ms(self) -> int:
        """The drain window in milliseconds."""
        return parse_duration(self.drain)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a node that listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _wrong(option: str, value: object, advice: str) -> ConfigError:
    return ConfigError(f"{option}: '{value}' is wrong; {advice}")


def masked_url(url: str) -> str:
    """A URL without what may be secret in it: who asks, and what stands behind the path."""
    path = re.sub(r"[?#].*", f"?{MASK}", url, flags=re.DOTALL)
    return re.sub(r"^(https?://)?.*@", rf"\1{MASK}@", path, flags=re.DOTALL)


def _beginning(text: str) -> str:
    """What of a text is a name for certain; the rest is shown to nobody, for it may be a password."""
    found = re.match(r"[\w.-]*", text)
    return "" if found is None else found[0]


def _check_bootstrap(text: str) -> None:
    for server in text.split(","):
        host, colon, port = server.strip().rpartition(":")
        if not host or not colon or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise _wrong("kafka", text, "give the bootstrap servers as HOST:PORT[,HOST:PORT...], like localhost:9092")


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url.strip())
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _check_key_set(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))):
        shown = masked_url(url)
        raise _wrong("jwks", shown, "give an https URL, like https://login.example.com/.well-known/jwks.json")
    if "@" in parts.netloc:
        raise _wrong("jwks", masked_url(url), "give it without name and password: documents are fetched without")


def _check_range(option: str, value: object, least: int, most: int) -> None:
    if not isinstance(value, int) or not least <= value <= most:
        raise _wrong(option, value, f"give a whole number from {least} to {most}")


def _check_duration(option: str, text: str, least_ms: int, most_ms: int, bounds: str) -> None:
    try:
        milliseconds = parse_duration(text)
    except ValueError as problem:
        raise ConfigError(f"{option}: '{text}' is {problem}") from None
    if not least_ms <= milliseconds <= most_ms:
        raise _wrong(option, text, f"give a time {bounds}")
