//! One channel over tokio-tungstenite: a broadcast channel, and a task for each client that sends on what comes.

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::{self, Receiver, Sender};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Messages that a client may be behind; one further behind loses some, and the check of the numbers says so.
const BEHIND_MAX: usize = 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let (publish, _) = broadcast::channel::<Utf8Bytes>(BEHIND_MAX);
    let clients = TcpListener::bind("127.0.0.1:0").await?;
    let lines = TcpListener::bind("127.0.0.1:0").await?;
    println!(r#"{{"port":{},"feed":{}}}"#, clients.local_addr()?.port(), lines.local_addr()?.port());
    loop {
        tokio::select! {
            accepted = clients.accept() => {
                let (stream, receiver) = (accepted?.0, publish.subscribe());
                tokio::spawn(async { serve(stream, receiver).await.ok() });
            }
            accepted = lines.accept() => {
                tokio::spawn(feed(accepted?.0, publish.clone()));
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    mut messages: Receiver<Utf8Bytes>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let mut client = tokio_tungstenite::accept_async(stream).await?;
    client.send(Message::text("hello")).await?;
    loop {
        tokio::select! {
            message = messages.recv() => client.send(Message::Text(message?)).await?,
            said = client.next() => if said.is_none() { return Ok(()) },
        }
    }
}

async fn feed(stream: TcpStream, publish: Sender<Utf8Bytes>) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        publish.send(line.into()).ok();
    }
}
