//! Dead letters, from the failure to the second chance: set aside by the consumers, listed and replayed by the
//! program, applied.

use std::process::Command;
use std::time::Duration;

use harness::{Firm, binary, eventually, within, world};
use proto::audit::v1 as audit;
use proto::projects::v1 as projects;
use serde_json::Value;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

/// Runs `catalyst events dead-letters` as the operator; what it printed.
fn dead_letters(arguments: &[&str]) -> String {
    let output = Command::new(binary())
        .args(["events", "dead-letters"])
        .args(arguments)
        .args(["--nats-url", &world().nats_url, "--creds"])
        .arg(world().credentials_dir.join("operator.creds"))
        .output()
        .expect("the program runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The letters of a firm by consumer: sequence and id of the event.
fn letters_of(firm: &Firm, consumer: &str) -> Vec<(String, String)> {
    let listed = dead_letters(&["list", "--limit", "1000", "--json"]);
    let letters = listed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    letters
        .filter(|letter| {
            letter["event"]["tenant"] == firm.id.to_string() && letter["consumer"] == consumer
        })
        .map(|letter| {
            let id = letter["event"]["id"].as_str().expect("an id").to_owned();
            (letter["sequence"].to_string(), id)
        })
        .collect()
}

async fn administers(statement: String) {
    let mut admin = PgConnection::connect(&world().postgres_admin_url)
        .await
        .expect("connected");
    let done = sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
        .execute(&mut admin)
        .await;
    done.expect("done");
}

async fn types_on_record(firm: &Firm) -> Vec<String> {
    let request = audit::ListRecordsRequest {
        page_size: 100,
        ..Default::default()
    };
    let listed = firm.audit().list_records(request).await.expect("listed");
    let records = listed.into_inner().records.into_iter();
    records.map(|record| record.r#type).collect()
}

#[tokio::test]
async fn events_of_both_streams_that_failed_are_set_aside_replayed_and_applied_once() {
    let firm = Firm::new("Unlucky").await;
    // A fault of the audit service's own, for this firm alone.
    let constraint = format!("fault_{}", firm.id.uuid().simple());
    administers(format!(
        "alter table audit.record add constraint {constraint} check (tenant_id <> '{}') not valid",
        firm.id
    ))
    .await;
    firm.wins_client("North").await;
    let missing = projects::GetProjectRequest {
        project_id: kit::ctx::Clock::system().new_uuid().to_string(),
    };
    assert!(firm.projects().get_project(missing).await.is_err());

    // Eight failures, each after twice the time.
    let set_aside = within(Duration::from_secs(90), async || {
        let domain = letters_of(&firm, "audit").into_iter().next()?;
        let security = letters_of(&firm, "audit-security").into_iter().next()?;
        Some([domain, security])
    });
    let letters = set_aside.await.expect("both are set aside");
    administers(format!(
        "alter table audit.record drop constraint {constraint}"
    ))
    .await;
    assert_eq!(types_on_record(&firm).await, Vec::<String>::new());

    for _ in 0..2 {
        let [(domain, _), (security, _)] = &letters;
        dead_letters(&["replay", domain, security]);
    }
    let expected = [
        "catalyst.common.v1.ResourceNotFound",
        "catalyst.projects.v1.ClientCreated",
    ];
    eventually("both are on record", async || {
        let mut types = types_on_record(&firm).await;
        types.sort();
        (types == expected).then_some(())
    })
    .await;
    // The second replay of each is behind the first; an event after them shows that it changed nothing.
    firm.hires("Kim").await;
    eventually("what came after", async || {
        let types = types_on_record(&firm).await;
        types
            .iter()
            .any(|name| name.ends_with("ConsultantCreated"))
            .then_some(())
    })
    .await;
    assert_eq!(types_on_record(&firm).await.len(), 3);
}
