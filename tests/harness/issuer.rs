//! A token issuer's web server: publishes whatever key set, or nonsense, it is told to, and counts who asks.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// What the server answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// These bytes.
    Body(Vec<u8>),
    /// This status, and a body that would be right.
    Status(u16, Vec<u8>),
    /// A redirect to another address.
    Redirect(String),
    /// Nothing, for longer than anybody waits.
    Silence,
}

#[derive(Debug)]
struct Site {
    answer: Mutex<Answer>,
    hits: AtomicUsize,
}

/// The server.
#[derive(Clone, Debug)]
pub struct JwksServer {
    /// Where the key set is.
    pub url: String,
    site: Arc<Site>,
}

impl JwksServer {
    /// Listens on a port of its own.
    pub async fn start(answer: Answer) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address: SocketAddr = listener.local_addr().expect("its address");
        let site = Arc::new(Site {
            answer: Mutex::new(answer),
            hits: AtomicUsize::new(0),
        });
        let router = Router::new()
            .fallback(answer_with)
            .with_state(Arc::clone(&site));
        #[expect(clippy::disallowed_methods, reason = "lives as long as the test")]
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            url: format!("http://{address}/jwks.json"),
            site,
        }
    }

    /// Answers this from now on.
    pub fn answers(&self, answer: Answer) {
        *self
            .site
            .answer
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// How often it has been asked, for any path.
    pub fn hits(&self) -> usize {
        self.site.hits.load(Ordering::SeqCst)
    }
}

async fn answer_with(State(site): State<Arc<Site>>) -> Response {
    site.hits.fetch_add(1, Ordering::SeqCst);
    let answer = site
        .answer
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    match answer {
        Answer::Body(body) => Body::from(body).into_response(),
        Answer::Status(status, body) => {
            let status = StatusCode::from_u16(status).expect("a status");
            (status, body).into_response()
        }
        Answer::Redirect(to) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
        Answer::Silence => {
            tokio::time::sleep(Duration::from_mins(1)).await;
            StatusCode::OK.into_response()
        }
    }
}
