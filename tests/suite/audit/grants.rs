//! What the roles that serve may do to the log, whatever a statement of theirs says: add to it, and read their part.

use harness::{Firm, eventually, world};
use proto::audit::v1 as pb;
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _};

use super::{alerts_of, asks_for, records, records_of_operator};

/// A session of a role of the audit service, within a tenant.
async fn session_of(role: &str, firm: &Firm) -> PgConnection {
    let password =
        std::fs::read_to_string(world().password_dir.join(role)).expect("the role has a password");
    let options: PgConnectOptions = world().database_url.parse().expect("a URL");
    let options = options.username(role).password(password.trim());
    let mut session = options.connect().await.expect("the role connects");
    sqlx::query("select set_config('app.current_tenant_id', $1, false)")
        .bind(firm.id.to_string())
        .execute(&mut session)
        .await
        .expect("the context is set");
    session
}

#[tokio::test]
async fn nobody_who_serves_may_change_a_record() {
    let firm = Firm::new("Kept").await;
    firm.wins_client("North").await;
    records(&firm, 1).await;
    for role in ["audit_app", "audit_operator", "audit_relay"] {
        let mut session = session_of(role, &firm).await;
        for statement in [
            "update audit.record set actor_id = 'nobody'",
            "delete from audit.record",
            "truncate audit.record",
        ] {
            let refused = sqlx::query(AssertSqlSafe(statement))
                .execute(&mut session)
                .await
                .expect_err("a record stays as it is");
            let code = refused.as_database_error().and_then(DatabaseError::code);
            assert_eq!(code.as_deref(), Some("42501"), "{role}: {statement}");
        }
    }
}

#[tokio::test]
async fn the_serving_role_reads_nothing_of_the_operators_log() {
    let (offender, victim) = tokio::join!(Firm::new("Offender"), Firm::new("Victim"));
    let project = victim.creates_project("Secret").await;
    asks_for(&offender, "mallory", &project.id).await;
    eventually("the victim's alert", async || {
        alerts_of(&victim).await.into_iter().next()
    })
    .await;
    let shown = records_of_operator(&offender.id.to_string(), pb::RecordFilter::default()).await;
    assert!(shown.iter().any(|record| record.operator_only));
    let mut session = session_of("audit_app", &offender).await;
    let (own, operators): (i64, i64) = sqlx::query_as(
        "select count(*) filter (where not operator_only), count(*) filter (where operator_only) from audit.record",
    )
    .fetch_one(&mut session)
    .await
    .expect("the role reads");
    assert!(own > 0);
    assert_eq!(operators, 0);
}
