//! A receiver of alert deliveries: keeps what came, and refuses for as long as it is told to.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;

/// One accepted delivery.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// `webhook-id`, `webhook-timestamp`, `webhook-signature`.
    pub headers: HeaderMap,
    /// The body as it came.
    pub body: String,
}

#[derive(Debug, Default)]
struct Inbox {
    accepted: Mutex<Vec<Delivery>>,
    refused: Mutex<Vec<Delivery>>,
    refuses: AtomicBool,
}

/// The receiver.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Where alerts are sent.
    pub url: String,
    /// The secret of the signatures, `whsec_…`.
    pub secret: String,
    inbox: Arc<Inbox>,
}

impl Webhook {
    /// Listens on a port of its own.
    pub async fn start(secret: &Path) -> anyhow::Result<Self> {
        let inbox = Arc::new(Inbox::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/alerts", listener.local_addr()?);
        let router = Router::new()
            .route("/alerts", post(receive))
            .with_state(Arc::clone(&inbox));
        #[expect(
            clippy::disallowed_methods,
            reason = "lives as long as the test process"
        )]
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self {
            url,
            secret: std::fs::read_to_string(secret)?,
            inbox,
        })
    }

    /// Everything accepted so far.
    pub fn accepted(&self) -> Vec<Delivery> {
        self.inbox
            .accepted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Everything refused so far.
    pub fn refused(&self) -> Vec<Delivery> {
        self.inbox
            .refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Refuses deliveries, or accepts them again.
    pub fn refuse(&self, refuses: bool) {
        self.inbox.refuses.store(refuses, Ordering::SeqCst);
    }
}

async fn receive(State(inbox): State<Arc<Inbox>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let delivery = Delivery {
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let (kept, answer) = if inbox.refuses.load(Ordering::SeqCst) {
        (&inbox.refused, StatusCode::SERVICE_UNAVAILABLE)
    } else {
        (&inbox.accepted, StatusCode::NO_CONTENT)
    };
    kept.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(delivery);
    answer
}
