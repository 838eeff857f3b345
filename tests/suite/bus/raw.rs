//! A client that writes the protocol of NATS itself, to send what no client library lets through.

use std::path::Path;

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

pub(super) struct Raw {
    stream: BufReader<TcpStream>,
}

impl Raw {
    /// Connects with a credentials file.
    pub(super) async fn connect(url: &str, credentials: &Path) -> Self {
        let address = url.trim_start_matches("nats://");
        let stream = TcpStream::connect(address).await.expect("it connects");
        let mut raw = Self {
            stream: BufReader::new(stream),
        };
        let greeting = raw.line().await;
        let greeting = greeting.strip_prefix("INFO ").expect("a greeting");
        let greeting: Value = serde_json::from_str(greeting).expect("JSON");
        let text = std::fs::read_to_string(credentials).expect("credentials");
        let line = |start: &str| text.lines().find(|line| line.starts_with(start));
        let user = KeyPair::from_seed(line("SU").expect("a seed")).expect("a key");
        let nonce = greeting["nonce"].as_str().expect("a nonce");
        let signature = user.sign(nonce.as_bytes()).expect("it signs");
        let connect = json!({
            "verbose": false, "pedantic": false, "headers": true, "protocol": 1, "lang": "raw", "version": "0",
            "no_responders": true, "jwt": line("ey").expect("a token"), "sig": BASE64URL_NOPAD.encode(&signature),
        });
        raw.write(&format!("CONNECT {connect}\r\n")).await;
        raw.settle().await;
        raw
    }

    /// Publishes with a block of headers as it is given, and returns when the server has taken it.
    pub(super) async fn publish(&mut self, subject: &str, headers: &str, body: &str) {
        let headers = format!("NATS/1.0\r\n{headers}\r\n\r\n");
        let total = headers.len() + body.len();
        let message = format!(
            "HPUB {subject} {} {total}\r\n{headers}{body}\r\n",
            headers.len()
        );
        self.write(&message).await;
        self.settle().await;
    }

    async fn settle(&mut self) {
        self.write("PING\r\n").await;
        loop {
            match self.line().await.as_str() {
                "PONG" => return,
                // The server tells more of itself once the user is in.
                line => assert!(line.starts_with("INFO "), "{line}"),
            }
        }
    }

    async fn write(&mut self, text: &str) {
        let written = self.stream.get_mut().write_all(text.as_bytes()).await;
        written.expect("written");
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.expect("a line");
        line.trim_end().to_owned()
    }
}
