//! A connection in use: what is known of its state, and what becomes of it at the end.
//!
//! Invariant: it goes back to the pool outside any transaction and with nothing under way, or it is closed.

use std::fmt;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use sqlx::postgres::{PgConnection, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Either, Execute, Executor, Postgres, SqlStr};

use crate::Error;
use crate::pool::{Lease, silence};
use crate::tasks::Tasks;

/// How long a server may stay silent. Longer than its own `statement_timeout` of 9 s, so that this counts only for one
/// that has vanished: the kernel would wait a quarter of an hour for it.
const STATEMENT_LIMIT: Duration = Duration::from_secs(10);
/// How long a ROLLBACK of a dropped transaction may take before its connection is closed instead.
const ROLLBACK_LIMIT: Duration = Duration::from_secs(2);

/// What statements run on: `sqlx::query(…).execute(&mut **tx)`.
/// It is a leased connection and what is known of its state.
pub struct Session {
    lease: Option<Lease>,
    tasks: Tasks,
    in_transaction: bool,
    /// When whoever asked stops waiting: then no statement begins.
    deadline: Option<Instant>,
    state: State,
}

/// What is known of a connection in use.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// A statement was sent and its end not seen: cancelled, or failed below the protocol.
    in_flight: bool,
    /// The connection itself failed, so that others to the same server are suspect.
    dead: bool,
    /// A statement failed: PostgreSQL would answer COMMIT with a rollback, and no error.
    aborted: bool,
}

impl State {
    fn begin(&mut self) {
        self.in_flight = true;
    }

    fn end(&mut self) {
        self.in_flight = false;
    }

    fn fail(&mut self, error: &sqlx::Error) {
        match error {
            sqlx::Error::Database(_) => {
                self.in_flight = false;
                self.aborted = true;
            }
            sqlx::Error::RowNotFound | sqlx::Error::ColumnDecode { .. } => self.in_flight = false,
            _ => self.dead = true,
        }
    }
}

/// What a statement is that did not begin, to the driver's callers; [`Error`] knows it again.
#[derive(Debug, thiserror::Error)]
#[error("the deadline passed before the statement began")]
pub(crate) struct TooLate;

fn too_late() -> sqlx::Error {
    sqlx::Error::Configuration(Box::new(TooLate))
}

impl Session {
    pub(crate) fn new(lease: Lease, tasks: Tasks, in_transaction: bool) -> Self {
        Self {
            lease: Some(lease),
            tasks,
            in_transaction,
            deadline: None,
            state: State::default(),
        }
    }

    /// The same, in which no statement begins after `deadline`.
    pub(crate) fn until(mut self, deadline: Option<Instant>) -> Self {
        self.deadline = deadline;
        self
    }

    fn is_too_late(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Commits and returns the connection, or closes it when the end is not confirmed.
    pub(crate) async fn commit(&mut self) -> Result<(), Error> {
        if self.state.aborted {
            return Err(Error::internal("a commit after a statement that failed"));
        }
        if self.is_too_late() {
            return Err(Error::TooLate);
        }
        let (connection, state) = self.connection();
        state.begin();
        let commit = sqlx::raw_sql("commit").execute(connection);
        let outcome = tokio::time::timeout(STATEMENT_LIMIT, commit)
            .await
            .unwrap_or_else(|_| Err(silence()));
        if let Err(error) = outcome {
            state.fail(&error);
            // A refused commit has ended the transaction.
            self.in_transaction = self.state.in_flight;
            return Err(error.into());
        }
        state.end();
        self.in_transaction = false;
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
        Ok(())
    }

    fn connection(&mut self) -> (&mut PgConnection, &mut State) {
        match self.lease.as_mut() {
            Some(lease) => (lease.connection(), &mut self.state),
            None => unreachable!("the lease is taken only by the end of the scope"),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(mut lease) = self.lease.take() else {
            return;
        };
        if self.state.in_flight {
            // Dropped, this one connection closes; the others only if it was the server that failed.
            if self.state.dead {
                lease.discard();
            }
            return;
        }
        if !self.in_transaction {
            lease.give_back();
            return;
        }
        // The caller need not wait for the rollback of a refused operation.
        self.tasks.spawn(async move {
            let rollback = sqlx::raw_sql("rollback").execute(lease.connection());
            if let Ok(Ok(_)) = tokio::time::timeout(ROLLBACK_LIMIT, rollback).await {
                lease.give_back();
            }
        });
    }
}

impl<'c> Executor<'c> for &'c mut Session {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        if self.is_too_late() {
            return futures::stream::once(async { Err(too_late()) }).boxed();
        }
        let (connection, state) = self.connection();
        state.begin();
        let mut results = connection.fetch_many(query);
        let mut limit = Box::pin(tokio::time::sleep(STATEMENT_LIMIT));
        futures::stream::poll_fn(move |cx| {
            let next = results.poll_next_unpin(cx);
            match &next {
                Poll::Ready(None) => state.end(),
                Poll::Ready(Some(Err(error))) => state.fail(error),
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Pending => {
                    if limit.poll_unpin(cx).is_ready() {
                        state.dead = true;
                        return Poll::Ready(Some(Err(silence())));
                    }
                }
            }
            next
        })
        .boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        async move {
            if self.is_too_late() {
                return Err(too_late());
            }
            let (connection, state) = self.connection();
            state.begin();
            let found = tokio::time::timeout(STATEMENT_LIMIT, connection.fetch_optional(query));
            let result = found.await.unwrap_or_else(|_| Err(silence()));
            match &result {
                Ok(_) => state.end(),
                Err(error) => state.fail(error),
            }
            result
        }
        .boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        self.connection().0.prepare_with(sql, parameters)
    }

    fn describe<'e>(
        self,
        sql: SqlStr,
    ) -> BoxFuture<'e, Result<sqlx::Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        self.connection().0.describe(sql)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}
