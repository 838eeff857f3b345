//! What is gRPC and what is not, and the reason on statuses that the transport makes by itself.
//!
//! Invariant: a request reaches a handler only as gRPC asks for it and under the exact name of a method that is served;
//! no status leaves without a reason.

use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use proto::common::v1::{ErrorReason, ProtocolAbuse};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::arrival;
use crate::error::Verdict;

/// What `content-type` may begin with before its parameters: there is no codec but protobuf.
const CONTENT_TYPES: [&str; 2] = ["application/grpc", "application/grpc+proto"];

/// The answer to a request that is not gRPC, as the protocol has it; none when the request is.
pub(crate) fn not_grpc(request: &Request<Body>) -> Option<Response<Body>> {
    let of = |name| {
        let value: Option<&http::HeaderValue> = request.headers().get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let content_type = of(header::CONTENT_TYPE);
    let content_type = content_type.split(';').next().unwrap_or_default().trim();
    let status = if *request.method() != Method::POST {
        StatusCode::METHOD_NOT_ALLOWED
    } else if !CONTENT_TYPES.contains(&content_type) {
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    } else if !of(header::TE).eq_ignore_ascii_case("trailers") {
        // A proxy that drops it drops trailers as well, and with them the outcome of every call.
        StatusCode::BAD_REQUEST
    } else {
        return None;
    };
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let post = http::HeaderValue::from_static("POST");
        answer.headers_mut().insert(header::ALLOW, post);
    }
    Some(answer)
}

/// The name of the method that the path names to the letter; none when it names something besides.
pub(crate) fn method_of(request: &Request<Body>) -> Option<&str> {
    let uri = request.uri();
    if uri.query().is_some() {
        return None;
    }
    uri.path().strip_prefix('/')
}

/// UNIMPLEMENTED, the same for whatever is not served.
pub(crate) fn unknown_method() -> Response<Body> {
    let message = "the server does not serve this method";
    Verdict::new(Code::Unimplemented, ErrorReason::MethodUnknown, message)
        .into_status()
        .into_http()
}

/// Gives a status of the transport the reason that ours have, and says what the request was guilty of. Ours all have
/// their reason already, so what has none was made while the request was read.
pub(crate) fn explain(headers: &mut HeaderMap) -> Option<ProtocolAbuse> {
    if headers.contains_key("grpc-status-details-bin") {
        return None;
    }
    let code = Code::from_bytes(headers.get("grpc-status")?.as_bytes());
    let (status, abuse) = match code {
        Code::OutOfRange | Code::ResourceExhausted => {
            (arrival::too_large(), Some(ProtocolAbuse::MessageTooLarge))
        }
        Code::Internal => {
            let message = "the request is not one message of the method";
            let reason = ErrorReason::MessageMalformed;
            let malformed = Verdict::new(Code::InvalidArgument, reason, message).into_status();
            (malformed, Some(ProtocolAbuse::MessageMalformed))
        }
        Code::Unimplemented => {
            let message = "requests must not be compressed";
            let reason = ErrorReason::EncodingUnsupported;
            let compressed = Verdict::new(Code::Unimplemented, reason, message).into_status();
            (compressed, None)
        }
        _ => return None,
    };
    replace(headers, status);
    abuse
}

fn replace(headers: &mut HeaderMap, status: Status) {
    let (parts, ()) = status.into_http::<()>().into_parts();
    for name in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
        headers.remove(name);
        if let Some(value) = parts.headers.get(name) {
            headers.insert(name, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn only_grpc_passes_and_the_rest_gets_the_status_of_its_fault() {
        let outcome = |method: &str, kind: &str, te: &str| {
            let headers = [("content-type", kind), ("te", te)];
            not_grpc(&request(method, "/a.B/C", &headers)).map(|answer| answer.status().as_u16())
        };
        assert_eq!(outcome("POST", "application/grpc", "trailers"), None);
        assert_eq!(outcome("POST", "application/grpc+proto", "trailers"), None);
        assert_eq!(
            outcome("POST", "application/grpc; charset=utf-8", "trailers"),
            None
        );
        for kind in [
            "application/json",
            "application/grpc-web",
            "application/grpc+json",
            "",
        ] {
            assert_eq!(outcome("POST", kind, "trailers"), Some(415), "{kind}");
        }
        for method in ["GET", "PUT", "HEAD", "OPTIONS", "post"] {
            assert_eq!(
                outcome(method, "application/grpc", "trailers"),
                Some(405),
                "{method}"
            );
        }
        assert_eq!(outcome("POST", "application/grpc", "gzip"), Some(400));
    }

    #[test]
    fn a_method_is_named_by_its_path_to_the_letter() {
        let named = |path: &str| method_of(&request("POST", path, &[])).map(ToOwned::to_owned);
        assert_eq!(named("/a.B/C").as_deref(), Some("a.B/C"));
        assert_eq!(named("//a.B/C").as_deref(), Some("/a.B/C"));
        assert_eq!(named("/a.B/C/").as_deref(), Some("a.B/C/"));
        assert_eq!(named("/a.B%2FC").as_deref(), Some("a.B%2FC"));
        assert_eq!(named("/a.B/C?x=1"), None);
    }

    #[test]
    fn a_status_of_the_transport_gets_a_reason_and_one_of_ours_keeps_its_own() {
        let headers_of = |status: Status| status.into_http::<()>().into_parts().0.headers;
        let mut decoded = headers_of(Status::internal("failed to decode Protobuf message"));
        assert_eq!(explain(&mut decoded), Some(ProtocolAbuse::MessageMalformed));
        assert_eq!(decoded["grpc-status"], "3");
        assert!(decoded.contains_key("grpc-status-details-bin"));
        assert!(!decoded["grpc-message"].to_str().unwrap().contains("decode"));

        let ours = Verdict::new(Code::Internal, ErrorReason::Internal, "internal error");
        let mut ours = headers_of(ours.into_status());
        let before = ours.clone();
        assert_eq!(explain(&mut ours), None);
        assert_eq!(ours, before);
        assert_eq!(explain(&mut HeaderMap::new()), None);
    }
}
