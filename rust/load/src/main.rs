//! `fanout-load`: the other side of the benchmarks.
//!
//! `receive` is thousands of clients, on any wire, that check every sequence number and cost next to no CPU; `engine` is
//! the engine itself with a writer that throws everything away. Both are driven by lines on standard input and answer
//! each with one line of JSON; they end when standard input does.

use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

mod clock;
mod commands;
mod connection;
mod engine;
mod fleet;
mod frames;
mod ingest;
mod limits;
mod mqtt;
mod peer;
mod plan;
mod stream;
mod tally;

#[derive(Parser)]
#[command(about, disable_help_subcommand = true)]
enum Job {
    /// Connect, attach, print `{"attached":…}`; then obey `until N` (wait until every connection has N messages of each
    /// of its channels) and `report` (counts and latencies since the last one)
    Receive(Receive),
    /// Publish to subscribers without sockets; obeys `round MESSAGES BATCH`
    Engine(Engine),
    /// Records into the engine without subscribers, stage by stage; obeys `round RECORDS BATCH`
    Ingest(Ingest),
}

#[derive(clap::Args)]
struct Receive {
    /// Address of the server, on loopback
    address: SocketAddrV4,
    /// How many connections to open
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=limits::CONNECTIONS_MAX))]
    connections: u32,
    /// How many channels there are: `load-0`, `load-1`, …
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=limits::CHANNELS_MAX))]
    channels: u32,
    /// Number of the first one: `load-N`, the next `load-(N+1)`, …
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=limits::CHANNELS_MAX))]
    first_channel: u32,
    /// How many of them each connection follows, dealt in turn
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=limits::FOLLOWED_MAX))]
    follow: u32,
    /// File of a line for each channel, with the position to resume it from and the number of the first message behind
    #[arg(long, value_name = "FILE", conflicts_with_all = ["raw", "peer"])]
    since: Option<PathBuf>,
    /// Key to authenticate with
    #[arg(long, default_value = "")]
    key: String,
    /// What to speak: the protocol over WebSocket, a stream over HTTP, or MQTT 3.1.1 over TCP
    #[arg(long, value_enum, default_value_t = Wire::Json)]
    format: Wire,
    /// No handshake and no protocol: the server only sends
    #[arg(long, conflicts_with = "format")]
    raw: bool,
    /// Another server than ours, at this path; one channel, messages are `~SEQUENCE SENT_US …` in any envelope
    #[arg(long, value_name = "PATH", conflicts_with_all = ["raw", "format"])]
    peer: Option<String>,
    /// What a peer is told after the upgrade, a text frame each
    #[arg(long, requires = "peer")]
    say: Vec<String>,
    /// What a peer says in a frame once the connection is subscribed
    #[arg(long, requires = "peer", default_value = "hello")]
    ready: String,
    /// A peer's question, and what it is answered
    #[arg(long, requires = "peer", num_args = 2, value_names = ["PING", "PONG"])]
    answer: Vec<String>,
    /// Connections being opened at any time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pace: u32,
    /// How long to wait for all to be attached, and for each `until`, in seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    timeout: u32,
}

#[derive(clap::Args)]
struct Engine {
    /// Connections, each attached to one channel
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    subscribers: u32,
    /// Channels, dealt to the connections in turn
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=limits::CHANNELS_MAX))]
    channels: u32,
    /// Bytes of each message's data
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    payload: u32,
    /// What the connections speak
    #[arg(long, value_enum, default_value_t = Coding::Json)]
    format: Coding,
}

#[derive(clap::Args, Clone)]
struct Ingest {
    /// Channels, dealt to the records in turn by their keys
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=limits::CHANNELS_MAX))]
    channels: u32,
    /// Bytes of each record's value
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    payload: u32,
    /// From the record to its channel
    #[arg(long, default_value = "#{key}")]
    template: String,
    /// The value is JSON, with a field `id` at this end of it
    #[arg(long, value_enum)]
    json: Option<Place>,
    /// The records are those of clients' publishes, with ids
    #[arg(long)]
    published: bool,
    /// Bytes that the rings may hold
    #[arg(long, default_value_t = 512 << 20)]
    history: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Place {
    First,
    Last,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Coding {
    Json,
    Msgpack,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wire {
    Json,
    Msgpack,
    Events,
    Lines,
    Mqtt,
    MqttQos1,
}

fn main() -> ExitCode {
    let result = match Job::parse() {
        Job::Receive(options) => fleet::run(&options),
        Job::Engine(options) => engine::run(&options),
        Job::Ingest(options) => ingest::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("fanout-load: {problem}");
            ExitCode::FAILURE
        }
    }
}
