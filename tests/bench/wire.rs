//! Calls on HTTP/2 itself: what a caller costs is taken from what it measures when both share cores, and a caller that is
//! late counts as services that are.

use std::sync::Arc;

use anyhow::Context as _;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::client::{Builder, SendRequest};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderValue, Method, Request, Uri};
use prost::Message;
use tokio::net::TcpStream;
use tonic::{Code, Status};

use crate::load::User;

/// What a connection and a stream may send before somebody reads it, in bytes.
const WINDOW: u32 = 1 << 20;
/// Whether a message is compressed, and its length.
const PREFIX: usize = 5;

/// Paths of methods.
pub(crate) const GET_PROJECT: &str = "/catalyst.projects.v1.ProjectService/GetProject";
pub(crate) const LIST_PROJECTS: &str = "/catalyst.projects.v1.ProjectService/ListProjects";
pub(crate) const CREATE_PROJECT: &str = "/catalyst.projects.v1.ProjectService/CreateProject";

/// A connection. A clone is of the same.
#[derive(Clone)]
pub(crate) struct Wire {
    url: Arc<str>,
    requests: SendRequest<Bytes>,
}

impl Wire {
    /// To services that speak plaintext.
    pub(crate) async fn connect(url: &str) -> anyhow::Result<Self> {
        let uri: Uri = url.parse()?;
        let address = uri.authority().context("services have an address")?;
        let socket = TcpStream::connect(address.as_str()).await?;
        socket.set_nodelay(true)?;
        let (requests, connection) = Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .handshake(socket)
            .await?;
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with the last call of the connection"
        )]
        tokio::spawn(connection);
        Ok(Self {
            url: url.into(),
            requests,
        })
    }

    /// One call of a method, by its path.
    pub(crate) async fn call<A: Message + Default>(
        &self,
        user: &User,
        path: &str,
        message: &impl Message,
    ) -> Result<A, Status> {
        let mut bytes = self.answer(user, path, message).await?;
        // What stands before a message.
        bytes.advance(PREFIX.min(bytes.len()));
        A::decode(bytes).map_err(failed)
    }

    /// The same, its answer as it is on the wire: to read a great one takes the caller's time, which is another machine's.
    pub(crate) async fn answer(
        &self,
        user: &User,
        path: &str,
        message: &impl Message,
    ) -> Result<BytesMut, Status> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = format!("{}{path}", self.url).parse().map_err(failed)?;
        *request.headers_mut() = user.header_map();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        let mut requests = self.requests.clone();
        let (answer, mut body) = requests.send_request(request, false).map_err(failed)?;
        body.send_data(framed(message), true).map_err(failed)?;

        let answer = answer.await.map_err(failed)?;
        if let Some(status) = Status::from_header_map(answer.headers()) {
            return Err(status);
        }
        let mut body = answer.into_body();
        let mut bytes = BytesMut::new();
        while let Some(data) = body.data().await {
            let data = data.map_err(failed)?;
            let taken = body.flow_control().release_capacity(data.len());
            taken.map_err(failed)?;
            bytes.put(data);
        }
        let trailers = body.trailers().await.map_err(failed)?;
        let status = trailers.and_then(|trailers| Status::from_header_map(&trailers));
        match status {
            Some(status) if status.code() == Code::Ok => Ok(bytes),
            Some(status) => Err(status),
            None => Err(Status::unknown("the answer has no status")),
        }
    }
}

/// A message as gRPC sends it: not compressed, its length, itself.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    bytes.put(&*message.encode_to_vec());
    bytes.freeze()
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Status {
    Status::from_error(Box::new(error))
}

#[cfg(test)]
mod tests {
    use proto::projects::v1::GetProjectRequest;

    use super::*;

    #[test]
    fn a_message_is_framed_as_on_the_wire() {
        let asked = GetProjectRequest {
            project_id: "ab".to_owned(),
        };
        assert_eq!(*framed(&asked), [0, 0, 0, 0, 4, 10, 2, b'a', b'b']);
    }
}
