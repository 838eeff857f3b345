//! `catalyst events reconcile`: ordinary work is sound, and each way to depart from the records is found by its name.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Output};

use harness::{Firm, world};
use prost_reflect::DescriptorPool;
use proto::projects::v1 as projects;
use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use crate::binary::own_database::OwnDatabase;
use crate::binary::program::{Folder, binary};

/// A table with versions that holds no aggregate: the log itself.
const LOG: &str = "record";

/// Runs the command on a database of the test server.
fn reconcile(url: &str, tenant: &str) -> Output {
    Command::new(binary())
        .args(["--json", "--tenant", tenant, "events", "reconcile"])
        .env("CATALYST_DATABASE_URL", url)
        .env("CATALYST_DATABASE_PASSWORD_DIR", &world().password_dir)
        .output()
        .expect("the program runs")
}

async fn of_firm(firm: &Firm) -> (Option<i32>, Vec<Value>) {
    let tenant = firm.id.to_string();
    let run = move || reconcile(&world().database_url, &tenant);
    let output = tokio::task::spawn_blocking(run).await.expect("it runs");
    (output.status.code(), lines(&output))
}

fn lines(output: &Output) -> Vec<Value> {
    let lines = std::str::from_utf8(&output.stdout).expect("text").lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

async fn administrator() -> PgConnection {
    PgConnection::connect(&world().postgres_admin_url)
        .await
        .expect("connected")
}

async fn execute(admin: &mut PgConnection, sql: String) {
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(admin).await;
    done.expect("the administrator may");
}

async fn renames(firm: &Firm, client: &projects::Client, name: &str) {
    let request = projects::UpdateClientRequest {
        client: Some(projects::Client {
            id: client.id.clone(),
            display_name: name.to_owned(),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["display_name".to_owned()],
        }),
        ..Default::default()
    };
    let renamed = firm.projects().update_client(request).await;
    renamed.expect("the client is renamed");
}

#[tokio::test]
async fn a_firm_that_works_and_deletes_is_sound() {
    let firm = Firm::new("Sound").await;
    let consultant = firm.hires("Kim").await;
    let project = firm.creates_project("Apollo").await;
    firm.deletes_some(&project.id, &consultant.id).await;
    let client = firm.wins_client("North").await;
    renames(&firm, &client, "South").await;
    let (code, mut told) = of_firm(&firm).await;
    let summary = told.pop().expect("a summary");
    assert_eq!((code, &told), (Some(0), &Vec::new()), "{summary}");
    // A consultant, two clients, a project, a removed assignment and a removed entry.
    assert_eq!(
        (&summary["sound"], &summary["aggregates"]),
        (&true.into(), &6.into())
    );
}

#[tokio::test]
async fn each_departure_is_found_and_named() {
    let firm = Firm::new("Departed").await;
    let consultant = firm.hires("Kim").await;
    let project = firm.creates_project("Apollo").await;
    firm.deletes_some(&project.id, &consultant.id).await;
    let mut clients = Vec::new();
    for name in ["Ahead", "Behind", "Gaps", "Lost", "Returned"] {
        let client = firm.wins_client(name).await;
        renames(&firm, &client, "Second").await;
        renames(&firm, &client, "Third").await;
        clients.push(client.id);
    }
    assert_eq!(of_firm(&firm).await.0, Some(0));

    let mut admin = administrator().await;
    let [ahead, behind, gaps, lost, returned] = clients.try_into().expect("five clients");
    let of = |id: &str| format!("tenant_id = '{}' and id = '{id}'", firm.id);
    let never = kit::ctx::Clock::system().new_uuid().to_string();
    let (row, tenant) = (of(&ahead), firm.id);
    for sql in [
        format!("update projects.client set version = 4 where {row}"),
        format!(
            "update projects.client set version = 2 where {}",
            of(&behind)
        ),
        format!(
            "update audit.record set version = 3 \
             where tenant_id = '{tenant}' and resource_id = '{gaps}' and version = 2"
        ),
        format!("delete from projects.client where {}", of(&lost)),
        format!(
            "insert into projects.tombstone (tenant_id, id, version) values ('{tenant}', '{returned}', 4)"
        ),
        format!(
            "insert into projects.client select tenant_id, '{never}', 'never', 'never', 1, now(), now() \
             from projects.client where {row}"
        ),
        format!("delete from time_entries.tombstone where tenant_id = '{tenant}'"),
    ] {
        execute(&mut admin, sql).await;
    }
    let (code, mut told) = of_firm(&firm).await;
    assert_eq!(code, Some(78), "{told:?}");
    let summary = told.pop().expect("a summary");
    assert_eq!(
        (&summary["sound"], &summary["departures"]),
        (&false.into(), &7.into())
    );
    let found: BTreeMap<&str, &str> = told
        .iter()
        .map(|line| {
            (
                line["id"].as_str().expect("id"),
                line["code"].as_str().expect("code"),
            )
        })
        .collect();
    let entry = told
        .iter()
        .find(|line| line["aggregate"] == "time_entries.time_entry");
    let entry = entry
        .and_then(|line| line["id"].as_str())
        .expect("the deleted entry");
    let expected = [
        (ahead.as_str(), "ahead"),
        (&behind, "behind"),
        (&gaps, "gaps"),
        (&lost, "lost"),
        (&returned, "returned"),
        (&never, "unrecorded"),
        (entry, "lost"),
    ];
    assert_eq!(found, BTreeMap::from(expected));
}

#[tokio::test]
async fn what_waits_in_an_outbox_is_on_its_way_and_no_departure() {
    let database = OwnDatabase::migrated().await;
    let tenant = kit::ctx::Clock::system().new_uuid();
    let client = kit::ctx::Clock::system().new_uuid();
    let platform = kit::TenantId::PLATFORM;
    // Nobody serves here, so nothing moves.
    let sql = format!(
        "insert into tenants.tenant values \
             ('{platform}', '{tenant}', 'waiting', 'Waiting', 'UTC', 'EUR', true, 1, now(), now()); \
         insert into projects.client values ('{tenant}', '{client}', 'n', 'N', 1, now(), now()); \
         insert into projects.outbox \
             (tenant_id, event_id, type, aggregate_id, version, occurred_at, actor_kind, actor_id, body) \
         values ('{tenant}', '{client}', 'catalyst.projects.v1.ClientCreated', '{client}', 1, now(), 'user', 'kim', '')"
    );
    database.execute(&sql).await;
    let url = database.url.clone();
    let run = move || reconcile(&url, "waiting");
    let output = tokio::task::spawn_blocking(run).await.expect("it runs");
    let told = lines(&output);
    assert_eq!(output.status.code(), Some(0), "{told:?}");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        (&told[0]["onTheirWay"], &told[0]["departures"]),
        (&1.into(), &0.into())
    );
    database.remove().await;
}

#[tokio::test]
async fn what_keeps_it_from_looking_is_told_by_the_exit_code() {
    let code = |output: Output| output.status.code();
    let nowhere = "postgres://127.0.0.1:9/catalyst";
    assert_eq!(code(reconcile(nowhere, "platform")), Some(69));
    assert_eq!(code(reconcile(&world().database_url, "nobody")), Some(64));
    let folder = Folder::new();
    let run = |variables: &[(&str, &str)]| {
        let mut command = Command::new(binary());
        command.args(["--data-dir", folder.0.to_str().expect("a path")]);
        command.args(["events", "reconcile"]);
        command.envs(variables.iter().copied());
        code(command.output().expect("the program runs"))
    };
    assert_eq!(run(&[]), Some(69), "nothing runs in that folder");
    let url = ("CATALYST_DATABASE_URL", world().database_url.as_str());
    assert_eq!(run(&[url]), Some(64));
    let passwords = ("CATALYST_DATABASE_PASSWORD_DIR", "/nowhere");
    assert_eq!(run(&[url, passwords]), Some(64));
}

#[test]
fn every_domain_event_tells_of_an_aggregate_that_its_service_declares() {
    let contract = DescriptorPool::decode(proto::DESCRIPTOR_SET).expect("the contract");
    let events: Vec<String> = contract
        .all_messages()
        .filter(|message| message.parent_file().name().ends_with("/events.proto"))
        .map(|message| message.full_name().to_owned())
        .collect();
    assert!(events.len() >= 18, "{events:?}");
    for event in events {
        let (noun, _) = kit::events::tokens(&event).expect("an event");
        let service = catalyst::services::ALL.iter().find(|it| it.schema == noun);
        let service = service.unwrap_or_else(|| panic!("{event}: no service is {noun}"));
        let kind = audit::record::kind_of(&event).expect("a kind");
        let is_declared = service.aggregates.iter().any(|it| it.table == kind);
        assert!(is_declared, "{event}: {noun} declares no aggregate {kind}");
    }
}

#[tokio::test]
async fn every_table_with_a_version_is_an_aggregate_or_a_copy_of_one() {
    let mut admin = administrator().await;
    let mut tables: Vec<BTreeSet<String>> = Vec::new();
    for service in &catalyst::services::ALL {
        let found: Vec<String> = sqlx::query_scalar(
            "select c.relname::text from pg_class c \
             join pg_attribute a on a.attrelid = c.oid and a.attname = 'version' and not a.attisdropped \
             where c.relkind in ('r', 'p') and not c.relispartition and c.relnamespace = $1::regnamespace",
        )
        .bind(service.schema)
        .fetch_all(&mut admin)
        .await
        .expect("the catalog is read");
        tables.push(found.into_iter().collect());
    }
    // What every schema has is the kit's.
    let of_kit = tables.iter().cloned().reduce(|all, of| &all & &of);
    let of_kit = of_kit.expect("services");
    assert!(of_kit.contains("outbox"), "{of_kit:?}");
    for (service, tables) in catalyst::services::ALL.iter().zip(&tables) {
        let aggregates = service.aggregates.iter().map(|it| it.table);
        let declared: BTreeSet<&str> = aggregates.chain(service.copies.iter().copied()).collect();
        let own = tables.difference(&of_kit).map(String::as_str);
        let undeclared: Vec<&str> = own
            .filter(|table| *table != LOG && !declared.contains(table))
            .collect();
        assert_eq!(undeclared, Vec::<&str>::new(), "of {}", service.name);
        for aggregate in service.aggregates {
            let (schema, table, version) = (service.schema, aggregate.table, aggregate.version);
            let sql = format!("select ({version})::bigint from {schema}.{table} limit 1");
            let read = sqlx::query(AssertSqlSafe(sql)).fetch_optional(&mut admin);
            read.await.expect("the declared version is read");
        }
    }
}
