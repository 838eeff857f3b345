//! Waiting for a condition with a deadline, instead of sleeping.

use std::time::{Duration, Instant};

/// Asks `look` again and again until it finds something; panics with `what` after ten seconds.
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = within(Duration::from_secs(10), look).await;
    found.unwrap_or_else(|| panic!("did not happen within 10 s: {what}"))
}

/// Asks `look` again and again until it finds something, or the time is over.
pub async fn within<T>(limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look().await {
            return Some(found);
        }
        if Instant::now() > deadline {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
