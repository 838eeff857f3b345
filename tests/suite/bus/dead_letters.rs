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

/// The versions of an aggregate that audit has recorded, in the order of the log.
async fn versions_on_record(firm: &Firm, aggregate: &str) -> Vec<i64> {
    let mut admin = PgConnection::connect(&world().postgres_admin_url)
        .await
        .expect("connected");
    sqlx::query_scalar(
        "select version from audit.record where tenant_id = $1 and aggregate_id = $2 order by sequence",
    )
    .bind(firm.id.uuid())
    .bind(aggregate.parse::<uuid::Uuid>().expect("an id"))
    .fetch_all(&mut admin)
    .await
    .expect("the log is read")
}

async fn renames(firm: &Firm, project: &projects::Project, name: &str) {
    let changed = projects::Project {
        id: project.id.clone(),
        display_name: name.to_owned(),
        ..Default::default()
    };
    let request = projects::UpdateProjectRequest {
        project: Some(changed),
        ..Default::default()
    };
    let renamed = firm.projects().update_project(request).await;
    renamed.expect("the project is renamed");
}

// The program that lists the letters is waited for on a thread of the runtime, whose connections live on the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_behind_an_event_that_is_set_aside_follows_it_until_it_is_replayed() {
    let firm = Firm::new("Ordered").await;
    let project = firm.creates_project("Apollo").await;
    let constraint = format!("fault_{}", firm.id.uuid().simple());
    administers(format!(
        "alter table audit.record add constraint {constraint} \
         check (tenant_id <> '{}' or aggregate_id <> '{}' or version <> 2) not valid",
        firm.id, project.id
    ))
    .await;
    renames(&firm, &project, "Apollo 2").await;
    renames(&firm, &project, "Apollo 3").await;
    let other = firm.creates_project("Gemini").await;
    eventually("other aggregates go on", async || {
        (versions_on_record(&firm, &other.id).await == [1]).then_some(())
    })
    .await;

    let set_aside = within(Duration::from_secs(90), async || {
        (letters_of(&firm, "audit").len() == 2).then_some(())
    });
    set_aside.await.expect("the event and the one behind it");
    renames(&firm, &project, "Apollo 4").await;
    let letters = eventually("what comes later follows at once", async || {
        let letters = letters_of(&firm, "audit");
        (letters.len() == 3).then_some(letters)
    })
    .await;
    assert_eq!(versions_on_record(&firm, &project.id).await, [1]);

    administers(format!(
        "alter table audit.record drop constraint {constraint}"
    ))
    .await;
    let sequences: Vec<&str> = letters.iter().map(|(sequence, _)| &**sequence).collect();
    // The last two first: they wait for the one before them.
    dead_letters(&["replay", sequences[0], sequences[1]]);
    dead_letters(&["replay", sequences[2]]);
    eventually("all are applied, in order", async || {
        (versions_on_record(&firm, &project.id).await == [1, 2, 3, 4]).then_some(())
    })
    .await;
    renames(&firm, &project, "Apollo 5").await;
    eventually("nothing is parked any more", async || {
        (versions_on_record(&firm, &project.id).await == [1, 2, 3, 4, 5]).then_some(())
    })
    .await;
    assert_eq!(letters_of(&firm, "audit").len(), 3);
}
