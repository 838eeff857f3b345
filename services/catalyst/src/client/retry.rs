//! Patience with a server that is away for a moment: calls are repeated with growing pauses, up to a limit.

use std::time::{Duration, Instant};

use tonic::{Response, Status};
use tonic_types::StatusExt as _;

use super::error::{Refused, is_transient};

/// How long a server may be away before a command gives up.
const PATIENCE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// The pauses between attempts since the last success.
pub(crate) struct Backoff {
    failing_since: Option<Instant>,
    pause: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self {
            failing_since: None,
            pause: FIRST_PAUSE,
        }
    }

    /// Something worked: patience is whole again.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::new();
    }

    /// Waits before the next attempt; false when patience is at its end.
    pub(crate) async fn wait(&mut self) -> bool {
        self.wait_for(Duration::ZERO).await
    }

    /// As [`Backoff::wait`], for as long as the server has said.
    pub(crate) async fn wait_for(&mut self, told: Duration) -> bool {
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        let pause = self.pause.max(told);
        if since.elapsed() + pause > PATIENCE {
            return false;
        }
        tokio::time::sleep(pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}

/// When the server has asked to call again, if it has.
pub(crate) fn told(status: &Status) -> Option<Duration> {
    let told = status.get_details_retry_info()?;
    told.retry_delay
}

/// Repeats a call while the server is away. Only for calls that are safe to repeat.
pub(crate) async fn persist<T>(
    mut call: impl AsyncFnMut() -> Result<Response<T>, Status>,
) -> Result<T, Refused> {
    let mut backoff = Backoff::new();
    loop {
        match call().await {
            Ok(response) => return Ok(response.into_inner()),
            Err(status)
                if is_transient(&status)
                    && backoff.wait_for(told(&status).unwrap_or_default()).await => {}
            Err(status) => return Err(status.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_is_repeated_while_the_server_is_away() {
        let mut attempts = 0;
        let answer = persist(async || {
            attempts += 1;
            if attempts < 4 {
                Err(Status::unavailable("away"))
            } else {
                Ok(Response::new("back"))
            }
        });
        assert_eq!(answer.await.unwrap(), "back");
        assert_eq!(attempts, 4);
    }

    #[tokio::test]
    async fn a_refusal_is_not_repeated() {
        let mut attempts = 0;
        let answer = persist::<()>(async || {
            attempts += 1;
            Err(Status::permission_denied("no"))
        });
        assert!(answer.await.is_err());
        assert_eq!(attempts, 1);
    }
}
