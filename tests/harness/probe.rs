//! Raw calls by name: any RPC of the contract with any message bytes, and the whole answer as it came.

use http::HeaderMap;
use prost::bytes::{Buf as _, BufMut as _};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status};

use crate::Caller;

/// The outcome of a raw call: everything that a caller can observe but time.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The gRPC status code.
    pub code: tonic::Code,
    /// The message of the status.
    pub message: String,
    /// The bytes of the status details.
    pub details: Vec<u8>,
    /// Headers and trailers of the answer, without those that the transport makes of the time.
    pub metadata: Vec<(String, String)>,
    /// The message bytes of an answer that is no error.
    pub body: Option<Vec<u8>>,
}

impl PartialEq for Probe {
    fn eq(&self, other: &Self) -> bool {
        (
            self.code,
            &self.message,
            &self.details,
            &self.metadata,
            &self.body,
        ) == (
            other.code,
            &other.message,
            &other.details,
            &other.metadata,
            &other.body,
        )
    }
}

/// Calls `method` (`catalyst.projects.v1.ProjectService/GetProject`) with one message, and ends the stream.
/// For a method that streams its answer, the first message or the error counts.
pub async fn probe(caller: &Caller, method: &str, message: Vec<u8>) -> Probe {
    let mut client = Grpc::new(caller.channel());
    client.ready().await.expect("the server is there");
    let path = format!("/{method}").parse().expect("a method's path");
    let mut request = Request::new(tokio_stream::once(message));
    *request.metadata_mut() = caller.metadata().clone();
    match client.streaming(request, path, RawMessages).await {
        Ok(response) => {
            let headers = response.metadata().clone().into_headers();
            let mut stream = response.into_inner();
            match stream.message().await {
                Ok(body) => Probe {
                    code: tonic::Code::Ok,
                    message: String::new(),
                    details: Vec::new(),
                    metadata: visible(&headers),
                    body,
                },
                Err(status) => of_status(&status),
            }
        }
        Err(status) => of_status(&status),
    }
}

fn of_status(status: &Status) -> Probe {
    Probe {
        code: status.code(),
        message: status.message().to_owned(),
        details: status.details().to_vec(),
        metadata: visible(&status.metadata().clone().into_headers()),
        body: None,
    }
}

fn visible(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut seen: Vec<(String, String)> = headers
        .iter()
        .filter(|(name, _)| name.as_str() != "date")
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect();
    seen.sort();
    seen
}

/// Messages as bytes, whatever they mean.
#[derive(Clone, Copy, Debug)]
pub struct RawMessages;

impl Codec for RawMessages {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self::Encoder {
        Self
    }
    fn decoder(&mut self) -> Self::Decoder {
        Self
    }
}

impl Encoder for RawMessages {
    type Item = Vec<u8>;
    type Error = Status;
    fn encode(&mut self, item: Vec<u8>, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put_slice(&item);
        Ok(())
    }
}

impl Decoder for RawMessages {
    type Item = Vec<u8>;
    type Error = Status;
    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut item = vec![0; source.remaining()];
        source.copy_to_slice(&mut item);
        Ok(Some(item))
    }
}
