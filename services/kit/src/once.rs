//! Safe repeats: a mutation with a `request_id` happens once, and each repeat within 24 hours gets the first answer.
//!
//! The id is claimed before the operation writes anything, so that a concurrent repeat waits for the first to end
//! and then reads its answer; claim, effect and answer commit together.

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::Error;
use crate::ctx::Ctx;
use crate::db::{Tx, schema_sql};

/// What identifies a repeat: the caller's id and a digest of the whole request. Without an id nothing is remembered.
#[derive(Clone, Debug)]
pub struct Repeat(Option<Key>);

#[derive(Clone, Debug)]
struct Key {
    request_id: Uuid,
    body_hash: [u8; 32],
}

impl Repeat {
    /// Reads the `request_id` of a request; empty means that the caller does not repeat.
    pub fn of(request_id: &str, request: &impl prost::Message) -> Result<Self, Error> {
        if request_id.is_empty() {
            return Ok(Self(None));
        }
        let request_id = Uuid::try_parse(request_id)
            .ok()
            .filter(|id| !id.is_nil())
            .ok_or_else(|| Error::invalid("request_id", "must be a UUID, or empty"))?;
        let mut body_hash = [0; 32];
        body_hash.copy_from_slice(digest(&SHA256, &request.encode_to_vec()).as_ref());
        Ok(Self(Some(Key {
            request_id,
            body_hash,
        })))
    }

    /// For operations that are not repeated by an id.
    pub fn none() -> Self {
        Self(None)
    }
}

/// A claimed id whose answer is still to be stored.
#[derive(Debug)]
pub(crate) struct Claim {
    actor: String,
    request_id: Uuid,
    answered: bool,
}

impl Claim {
    pub(crate) fn is_answered(&self) -> bool {
        self.answered
    }
}

impl Tx {
    /// The first answer, if this request was made before; otherwise claims its id for this transaction.
    /// Call it before anything else in the transaction.
    pub async fn once<T: DeserializeOwned>(
        &mut self,
        ctx: &Ctx,
        repeat: &Repeat,
    ) -> Result<Option<T>, Error> {
        let Some(key) = &repeat.0 else {
            return Ok(None);
        };
        let sql = self.sql();
        let actor = format!("{}:{}", ctx.actor().kind(), ctx.actor().id());
        let claimed = sqlx::query(schema_sql(&sql.claim_request))
            .bind(ctx.tenant().uuid())
            .bind(&actor)
            .bind(key.request_id)
            .bind(ctx.method())
            .bind(key.body_hash.as_slice())
            .bind(ctx.now())
            .execute(&mut **self)
            .await?
            .rows_affected()
            == 1;
        if claimed {
            self.set_claim(Claim {
                actor,
                request_id: key.request_id,
                answered: false,
            });
            return Ok(None);
        }
        let (method, body_hash, answer): (String, Vec<u8>, Option<serde_json::Value>) =
            sqlx::query_as(schema_sql(&sql.read_request))
                .bind(ctx.tenant().uuid())
                .bind(&actor)
                .bind(key.request_id)
                .fetch_one(&mut **self)
                .await?;
        if method != ctx.method() || body_hash != key.body_hash {
            return Err(Error::RequestIdReused);
        }
        let answer = answer.ok_or_else(|| Error::internal("a committed request has no answer"))?;
        serde_json::from_value(answer)
            .map(Some)
            .map_err(Error::internal)
    }

    /// Stores the answer under the claimed id; without a claim, nothing. Call it before [`Tx::commit`].
    pub async fn remember<T: Serialize>(&mut self, ctx: &Ctx, answer: &T) -> Result<(), Error> {
        let sql = self.sql();
        let Some(claim) = self.claim_mut() else {
            return Ok(());
        };
        claim.answered = true;
        let (actor, request_id) = (claim.actor.clone(), claim.request_id);
        let answer = serde_json::to_value(answer).map_err(Error::internal)?;
        sqlx::query(schema_sql(&sql.answer_request))
            .bind(ctx.tenant().uuid())
            .bind(actor)
            .bind(request_id)
            .bind(answer)
            .execute(&mut **self)
            .await?;
        Ok(())
    }
}
