//! A trail that was left alone verifies; each way to tamper with it, as one may who owns the database, is found with
//! the first bad record named.

use ::audit::chain::Head;
use ::audit::checkpoint::{Anchor, ChainFault, PublicKeys};
use ::audit::record::{Entry, Log};
use ::audit::trail::{BadRecord, LogReport, RecordFault};
use catalyst::trail::{self, Rules, StoredCheckpoints, Verdict};
use harness::{Caller, Firm, eventually, within, world};
use kit::TenantId;
use kit::ctx::{Actor, Clock};
use kit::tasks::Tasks;
use proto::audit::v1 as pb;
use proto::common::v1::AuditLogDiverged;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use std::time::Duration;
use tokio::sync::mpsc;

use super::{list, records, told};

fn rules(firm: &Firm) -> Rules {
    let keys = std::fs::read_to_string(&world().checkpoint_jwks).expect("the public keys");
    Rules {
        keys: PublicKeys::read(&keys).expect("public keys"),
        anchor: None,
        only: Some(firm.id),
        patience: time::Duration::minutes(5),
    }
}

/// A connection to the broker as one of its users.
pub(super) async fn broker(user: &str) -> async_nats::Client {
    let path = world().credentials_dir.join(format!("{user}.creds"));
    async_nats::ConnectOptions::with_credentials_file(path)
        .await
        .expect("credentials")
        .custom_inbox_prefix(format!("_INBOX_{user}"))
        .request_timeout(Some(Duration::from_secs(2)))
        .connect(&world().nats_url)
        .await
        .expect("the broker")
}

pub(super) async fn checkpoints() -> StoredCheckpoints {
    let stored = trail::checkpoints(broker("operator").await).await;
    stored.expect("an operator reads checkpoints")
}

/// The records of a firm, as the operator's export has them.
fn export(firm: &Firm) -> mpsc::Receiver<anyhow::Result<Vec<pb::ExportedRecord>>> {
    let (sender, received) = mpsc::channel(8);
    let service = Caller::operator().audit_operator();
    let tenant = firm.id.to_string();
    drop(Tasks::new().spawn(async move {
        if let Err(error) = trail::records(service, tenant, sender.clone()).await {
            drop(sender.send(Err(error)).await);
        }
    }));
    received
}

async fn judged(firm: &Firm, rules: Rules, stored: StoredCheckpoints) -> Verdict {
    let received = export(firm);
    let began = Clock::system().now();
    tokio::task::spawn_blocking(move || rules.verify(stored, began, received, &|_| {}))
        .await
        .expect("it runs")
        .expect("it can be verified")
}

async fn verdict(firm: &Firm) -> Verdict {
    judged(firm, rules(firm), checkpoints().await).await
}

fn tenant_log(verdict: &Verdict) -> Option<&LogReport> {
    verdict.logs.iter().find(|log| log.key.log == Log::Tenant)
}

/// Waits until every record of the firm is signed, `at_least` of them; how many there are.
async fn signed(firm: &Firm, at_least: usize) -> i64 {
    records(firm, at_least).await;
    let signed = within(Duration::from_secs(30), async || {
        let verdict = verdict(firm).await;
        assert!(verdict.is_good(), "{verdict:?}");
        let log = tenant_log(&verdict)?;
        let all = i64::try_from(log.records).ok()?;
        (all == log.signed_to && log.records >= at_least as u64).then_some(all)
    });
    signed.await.expect("everything is signed")
}

/// A firm with a log of five records or more, all signed.
async fn recorded(name: &str) -> (Firm, i64) {
    let firm = Firm::new(name).await;
    for code in ["Apollo", "Gemini", "Mercury"] {
        firm.creates_project(code).await;
    }
    let length = signed(&firm, 6).await;
    (firm, length)
}

/// Statements of whoever owns the database; `$1` is the tenant.
async fn tampers(firm: &Firm, statements: &[&str]) {
    let mut admin = PgConnection::connect(&world().postgres_admin_url)
        .await
        .expect("the database");
    for statement in statements {
        sqlx::query(AssertSqlSafe((*statement).to_owned()))
            .bind(firm.id.uuid())
            .execute(&mut admin)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

async fn finds(firm: &Firm, sequence: i64, fault: RecordFault) {
    let verdict = verdict(firm).await;
    let found = tenant_log(&verdict).and_then(|log| log.bad);
    assert_eq!(found, Some(BadRecord { sequence, fault }), "{verdict:?}");
    assert_eq!(verdict.chain, [], "the checkpoints are good");
}

#[tokio::test]
async fn a_trail_that_was_left_alone_verifies_and_is_signed_within_the_interval() {
    let (firm, length) = recorded("Sound").await;
    firm.creates_project("Skylab").await;
    let since = std::time::Instant::now();
    let longer = signed(&firm, usize::try_from(length).expect("small") + 1).await;
    assert!(longer > length);
    assert!(since.elapsed() < Duration::from_secs(30));
    let verdict = verdict(&firm).await;
    assert!(verdict.checkpoints > 0 && verdict.last.is_some());
}

#[tokio::test]
async fn an_edited_record_is_named() {
    let (firm, _) = recorded("Edited").await;
    tampers(
        &firm,
        &["update audit.record set actor_id = 'nobody' where tenant_id = $1 and not operator_only and sequence = 3"],
    )
    .await;
    finds(&firm, 3, RecordFault::Changed).await;
}

#[tokio::test]
async fn a_value_that_no_service_writes_is_an_edit() {
    let (firm, _) = recorded("Misspelt").await;
    tampers(
        &firm,
        &["update audit.record set actor_kind = 'users' where tenant_id = $1 and not operator_only and sequence = 2"],
    )
    .await;
    finds(&firm, 2, RecordFault::Changed).await;
}

#[tokio::test]
async fn an_inserted_record_is_named() {
    let (firm, _) = recorded("Padded").await;
    tampers(
        &firm,
        &[
            "update audit.record set sequence = sequence + 1000 \
             where tenant_id = $1 and not operator_only and sequence >= 3",
            "update audit.record set sequence = sequence - 999 \
             where tenant_id = $1 and not operator_only and sequence >= 1003",
            "insert into audit.record \
             select tenant_id, operator_only, 3, gen_random_uuid(), gen_random_uuid(), type, category, severity, \
                    actor_kind, actor_id, source, aggregate_id, version, resource_kind, resource_id, occurred_at, \
                    recorded_at, traceparent, body, hash \
             from audit.record where tenant_id = $1 and not operator_only and sequence = 4",
        ],
    )
    .await;
    finds(&firm, 3, RecordFault::Changed).await;
}

#[tokio::test]
async fn a_deleted_record_is_named() {
    let (firm, _) = recorded("Thinned").await;
    tampers(
        &firm,
        &["delete from audit.record where tenant_id = $1 and not operator_only and sequence = 3"],
    )
    .await;
    finds(&firm, 3, RecordFault::Missing).await;
}

#[tokio::test]
async fn reordered_records_are_named_from_the_first() {
    let (firm, _) = recorded("Shuffled").await;
    tampers(
        &firm,
        &[
            "update audit.record set sequence = 1003 where tenant_id = $1 and not operator_only and sequence = 3",
            "update audit.record set sequence = 3 where tenant_id = $1 and not operator_only and sequence = 4",
            "update audit.record set sequence = 4 where tenant_id = $1 and not operator_only and sequence = 1003",
        ],
    )
    .await;
    finds(&firm, 3, RecordFault::Changed).await;
}

/// Cuts a log after a record, and makes its end agree.
const CUT: [&str; 2] = [
    "delete from audit.record where tenant_id = $1 and not operator_only and sequence > 4",
    "update audit.chain set last_sequence = 4, last_hash = ( \
         select hash from audit.record where tenant_id = $1 and not operator_only and sequence = 4) \
     where tenant_id = $1 and not operator_only",
];

#[tokio::test]
async fn a_log_cut_at_its_end_is_found_and_the_operator_is_alerted() {
    let (firm, length) = recorded("Cut").await;
    tampers(&firm, &CUT).await;
    let verdict = verdict(&firm).await;
    let bad = tenant_log(&verdict)
        .and_then(|log| log.bad)
        .expect("it is found");
    assert_eq!(bad.sequence, 5);
    assert!(
        matches!(bad.fault, RecordFault::Cut { until, .. } if until == length),
        "{bad:?}"
    );
    let diverged = diverged(&firm).await;
    assert_eq!(
        (diverged.signed_sequence, diverged.found_sequence),
        (length, 4)
    );
}

/// What the checkpointer raised of a firm's log, on the operator's record.
async fn diverged(firm: &Firm) -> AuditLogDiverged {
    eventually("the operator is told", async || {
        let filter = pb::RecordFilter {
            r#type: "catalyst.common.v1.AuditLogDiverged".to_owned(),
            ..Default::default()
        };
        let platform = TenantId::PLATFORM.to_string();
        let listed = super::records_of_operator(&platform, filter).await;
        listed
            .into_iter()
            .filter_map(|record| record.record)
            .filter(|record| record.severity() == proto::common::v1::Severity::High)
            .filter_map(|record| prost::Message::decode(record.payload.as_slice()).ok())
            .find(|event: &AuditLogDiverged| event.log_tenant_id == firm.id.to_string())
    })
    .await
}

/// Writes a log anew from `from` on, every hash recomputed, as one may who has the code.
async fn rewrites(firm: &Firm, from: i64) {
    let found = list(firm, pb::RecordFilter::default()).await;
    let mut admin = PgConnection::connect(&world().postgres_admin_url)
        .await
        .expect("the database");
    let mut head = Head::START;
    for record in found {
        let record = told(firm.id, Log::Tenant, record);
        let at = record.recorded_at;
        let entry = Entry {
            actor: if record.sequence == from {
                Actor::User("somebody else".to_owned())
            } else {
                record.entry.actor.clone()
            },
            ..record.entry
        };
        let written = head.append(firm.id, Log::Tenant, at, [entry]).remove(0);
        sqlx::query(
            "update audit.record set actor_kind = $4, actor_id = $5, hash = $3 \
             where tenant_id = $1 and not operator_only and sequence = $2",
        )
        .bind(firm.id.uuid())
        .bind(written.sequence)
        .bind(written.hash.as_slice())
        .bind(written.entry.actor.kind())
        .bind(written.entry.actor.id())
        .execute(&mut admin)
        .await
        .expect("rewritten");
    }
    sqlx::query(
        "update audit.chain set last_sequence = $2, last_hash = $3 where tenant_id = $1 and not operator_only",
    )
    .bind(firm.id.uuid())
    .bind(head.sequence)
    .bind(head.hash.as_slice())
    .execute(&mut admin)
    .await
    .expect("the end agrees");
}

#[tokio::test]
async fn a_log_rewritten_from_its_start_with_every_hash_made_anew_is_found() {
    let (firm, length) = recorded("Rewritten").await;
    rewrites(&firm, 1).await;
    let verdict = verdict(&firm).await;
    let bad = tenant_log(&verdict)
        .and_then(|log| log.bad)
        .expect("it is found");
    assert_eq!(bad.sequence, 1);
    assert!(
        matches!(bad.fault, RecordFault::Rewritten { until, .. } if until <= length),
        "{bad:?}"
    );
}

#[tokio::test]
async fn a_restored_backup_is_found_where_it_left_the_signed_log_and_other_logs_are_signed_on() {
    let (firm, backed_up) = recorded("Restored").await;
    let other = Firm::new("Bystander").await;
    let id = firm.id.uuid().simple();
    let backup: Vec<String> = vec![
        format!(
            "create table public.backup_{id} as select * from audit.record where tenant_id = $1"
        ),
        format!(
            "create table public.backup_chain_{id} as select * from audit.chain where tenant_id = $1"
        ),
    ];
    let mut admin = PgConnection::connect(&world().postgres_admin_url)
        .await
        .expect("the database");
    for statement in backup {
        // A utility statement takes no parameters.
        let statement = statement.replace("$1", &format!("'{}'", firm.id));
        sqlx::query(AssertSqlSafe(statement))
            .execute(&mut admin)
            .await
            .expect("backed up");
    }
    firm.creates_project("Lost").await;
    let length = signed(&firm, usize::try_from(backed_up).expect("small") + 1).await;
    tampers(
        &firm,
        &[
            "delete from audit.record where tenant_id = $1",
            "delete from audit.chain where tenant_id = $1",
            &format!("insert into audit.record select * from public.backup_{id} where tenant_id = $1"),
            &format!("insert into audit.chain select * from public.backup_chain_{id} where tenant_id = $1"),
        ],
    )
    .await;
    sqlx::query(AssertSqlSafe(format!(
        "drop table public.backup_{id}, public.backup_chain_{id}"
    )))
    .execute(&mut admin)
    .await
    .expect("dropped");
    let diverged = diverged(&firm).await;
    assert_eq!(diverged.signed_sequence, length);
    // It goes another way, past what was signed.
    for code in ["Voyager", "Pioneer", "Viking"] {
        firm.creates_project(code).await;
    }
    let lost = usize::try_from(length - backed_up).expect("small");
    records(&firm, usize::try_from(backed_up).expect("small") + lost + 1).await;
    let found = verdict(&firm).await;
    let bad = tenant_log(&found)
        .and_then(|log| log.bad)
        .expect("it is found");
    assert_eq!(bad.sequence, backed_up + 1);
    assert!(
        matches!(bad.fault, RecordFault::Rewritten { .. }),
        "{bad:?}"
    );

    other.creates_project("Undisturbed").await;
    signed(&other, 2).await;
}

#[tokio::test]
async fn a_dropped_checkpoint_is_found_the_last_ones_with_an_anchor() {
    let (firm, _) = recorded("Dropped").await;
    let stored = within(Duration::from_secs(40), async || {
        firm.creates_project("Another").await;
        let stored = checkpoints().await;
        (stored.last >= 3).then_some(stored)
    });
    let stored = stored.await.expect("some checkpoints are there");
    let number = stored.last;
    let without = |dropped: std::ops::RangeInclusive<i64>, last: i64| StoredCheckpoints {
        signed: (1..)
            .zip(&stored.signed)
            .filter(|(number, _)| !dropped.contains(number))
            .map(|(_, signed)| signed.clone())
            .collect(),
        last,
    };
    let middle = judged(&firm, rules(&firm), without(2..=2, number)).await;
    assert_eq!(middle.chain, [ChainFault::Missing(2, 2)]);
    // The broker still counts what it does not have any more.
    let end = judged(&firm, rules(&firm), without(number..=number, number)).await;
    assert_eq!(end.chain, [ChainFault::Missing(number, number)]);
    // A broker rebuilt without the last one knows of nothing; who kept that one does.
    let anchor = Anchor::of(&stored.signed[stored.signed.len() - 1]);
    let kept = Rules {
        anchor,
        ..rules(&firm)
    };
    let rebuilt = judged(&firm, kept, without(number..=number, number - 1)).await;
    assert_eq!(rebuilt.chain, [ChainFault::Cut(number, number - 1)]);
}

#[tokio::test]
async fn old_records_past_the_last_checkpoint_show_that_the_last_ones_were_dropped() {
    let (firm, _) = recorded("Uncovered").await;
    let impatient = Rules {
        patience: time::Duration::ZERO,
        ..rules(&firm)
    };
    let nothing = judged(&firm, impatient, StoredCheckpoints::default()).await;
    let bad = tenant_log(&nothing).and_then(|log| log.bad);
    assert_eq!(
        bad,
        Some(BadRecord {
            sequence: 1,
            fault: RecordFault::Uncovered
        })
    );
}

#[tokio::test]
async fn an_export_verifies_without_any_server_and_shows_what_was_changed_in_it() {
    let (firm, length) = recorded("Exported").await;
    let stored = checkpoints().await;
    let mut text = Vec::new();
    let began = Clock::system().now();
    let count = trail::export(Some(firm.id), began, stored, export(&firm), |block| {
        text.extend_from_slice(block);
        Ok(())
    })
    .await
    .expect("exported");
    assert!(count >= u64::try_from(length).expect("positive"));
    let file = harness::temporary_folder()
        .expect("a folder")
        .join("x.ndjson");
    let found = |text: &str| {
        std::fs::write(&file, text).expect("written");
        trail::verify_file(&file, &rules(&firm), &|_| {}).expect("verified")
    };
    let text = String::from_utf8(text).expect("text");
    let good = found(&text);
    assert!(good.is_good(), "{good:?}");
    assert_eq!(good.records, count);

    let changed = text.replacen(r#""sequence":3,"#, r#""sequence":30,"#, 1);
    let bad = tenant_log(&found(&changed)).and_then(|log| log.bad);
    assert_eq!(
        bad,
        Some(BadRecord {
            sequence: 3,
            fault: RecordFault::Missing
        })
    );
    let cut = text.trim_end().rsplit_once('\n').expect("lines").0;
    let cut = cut.rsplit_once('\n').expect("lines").0;
    assert!(!found(cut).is_good());
    drop(std::fs::remove_dir_all(file.parent().expect("a folder")));
}
