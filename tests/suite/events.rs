//! From a committed change to every subscriber: the envelope, the order per aggregate, and what nobody else hears.

use std::time::Duration;

use async_nats::Client;
use futures::StreamExt;
use harness::{Firm, eventually, world};
use proto::projects::v1 as projects;
use sqlx::Connection as _;

/// Connects as a subscriber of one tenant.
async fn subscriber(firm: &Firm) -> Client {
    let credentials = catalyst::stack::identity::issue_tenant_credentials(
        &world().identity_dir,
        firm.id.uuid(),
        "suite",
    )
    .expect("credentials are issued");
    let options = async_nats::ConnectOptions::with_credentials(&credentials).expect("credentials");
    options
        .connect(&world().nats_url)
        .await
        .expect("the tenant's subscriber connects")
}

async fn hear(subscription: &mut async_nats::Subscriber) -> async_nats::Message {
    tokio::time::timeout(Duration::from_secs(10), subscription.next())
        .await
        .expect("an event within 10 s")
        .expect("open")
}

fn header(message: &async_nats::Message, name: &str) -> String {
    message
        .headers
        .as_ref()
        .and_then(|headers| headers.get(name))
        .map(ToString::to_string)
        .unwrap_or_default()
}

async fn rename(firm: &Firm, project: &projects::Project, name: &str) {
    let changed = projects::Project {
        id: project.id.clone(),
        display_name: name.to_owned(),
        ..Default::default()
    };
    let request = projects::UpdateProjectRequest {
        project: Some(changed),
        ..Default::default()
    };
    firm.projects()
        .update_project(request)
        .await
        .expect("the project is renamed");
}

#[tokio::test]
async fn a_tenants_subscriber_hears_each_change_once_in_order_with_its_envelope() {
    let firm = Firm::new("Listener").await;
    let client = subscriber(&firm).await;
    let mut subscription = client
        .subscribe(format!("catalyst.{}.projects.>", firm.id))
        .await
        .expect("subscribed");
    client.flush().await.expect("flushed");
    let project = firm.creates_project("Apollo").await;
    for i in 0..20 {
        rename(&firm, &project, &format!("Apollo {i}")).await;
    }
    let created_client = hear(&mut subscription).await;
    assert_eq!(
        header(&created_client, "ce-type"),
        "catalyst.projects.v1.ClientCreated"
    );
    for version in 1..=21 {
        let message = hear(&mut subscription).await;
        assert_eq!(header(&message, "ce-subject"), project.id);
        assert_eq!(header(&message, "ce-sequence"), version.to_string());
        assert_eq!(header(&message, "ce-tenantid"), firm.id.to_string());
        assert_eq!(header(&message, "ce-id"), header(&message, "Nats-Msg-Id"));
        assert_eq!(
            (
                header(&message, "ce-specversion"),
                header(&message, "ce-source")
            ),
            ("1.0".to_owned(), "catalyst/projects".to_owned())
        );
        let event = if version == 1 {
            "project_created"
        } else {
            "project_updated"
        };
        assert_eq!(
            message.subject.as_str(),
            format!("catalyst.{}.projects.{event}", firm.id)
        );
    }
}

#[tokio::test]
async fn a_tenants_subscriber_hears_nothing_of_another_tenant() {
    let (firm, other) = tokio::join!(Firm::new("Listener"), Firm::new("Other"));
    let client = subscriber(&firm).await;
    // What the server denies, it denies at once; these two are what a curious subscriber would try.
    let mut all = client.subscribe("catalyst.>").await.expect("sent");
    let mut theirs = client
        .subscribe(format!("catalyst.{}.>", other.id))
        .await
        .expect("sent");
    let mut own = client
        .subscribe(format!("catalyst.{}.>", firm.id))
        .await
        .expect("sent");
    client.flush().await.expect("flushed");
    other.creates_project("Secret").await;
    let project = firm.creates_project("Apollo").await;
    // The other tenant's events were published before the own one arrives.
    loop {
        let message = hear(&mut own).await;
        if header(&message, "ce-subject") == project.id {
            break;
        }
    }
    for subscription in [&mut all, &mut theirs] {
        let heard = tokio::time::timeout(Duration::from_millis(300), subscription.next()).await;
        assert!(!matches!(heard, Ok(Some(_))), "a foreign event was heard");
    }
}

#[tokio::test]
async fn a_refused_operation_leaves_no_event() {
    let firm = Firm::new("Refused").await;
    let client = subscriber(&firm).await;
    let mut subscription = client
        .subscribe(format!("catalyst.{}.>", firm.id))
        .await
        .expect("subscribed");
    client.flush().await.expect("flushed");
    let first = firm.wins_client("North").await;
    let twin = projects::Client {
        code: first.code.clone(),
        display_name: "Twin".to_owned(),
        ..Default::default()
    };
    let refused = firm
        .projects()
        .create_client(projects::CreateClientRequest {
            client: Some(twin),
            ..Default::default()
        })
        .await;
    assert!(refused.is_err());
    let last = firm.wins_client("South").await;
    assert_eq!(
        header(&hear(&mut subscription).await, "ce-subject"),
        first.id
    );
    assert_eq!(
        header(&hear(&mut subscription).await, "ce-subject"),
        last.id
    );
}

#[tokio::test]
async fn time_can_be_logged_at_once_on_a_project_just_created() {
    let firm = Firm::new("Prompt").await;
    for i in 0..10 {
        let (project, consultant) = tokio::join!(firm.creates_project("Apollo"), firm.hires("Kim"));
        firm.logs_hour(&project.id, &consultant.id, i).await;
    }
}

#[tokio::test]
async fn every_outbox_is_empty_once_the_relay_has_caught_up_and_nothing_is_set_aside() {
    let firm = Firm::new("Drained").await;
    firm.creates_project("Apollo").await;
    let mut admin = sqlx::postgres::PgConnection::connect(&world().postgres_admin_url)
        .await
        .expect("connected");
    eventually("the firm's outbox rows are gone", async || {
        for schema in [
            "tenants",
            "consultants",
            "projects",
            "time_entries",
            "audit",
        ] {
            let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
                "select count(*) from {schema}.outbox where tenant_id = $1"
            )))
            .bind(firm.id.uuid())
            .fetch_one(&mut admin)
            .await
            .ok()?;
            if count > 0 {
                return None;
            }
        }
        Some(())
    })
    .await;
}

/// Publishes, as the service `user` itself, an event whose envelope says `tenant` under `subject`.
async fn forges(user: &str, subject: String, tenant: kit::TenantId, source: &str) {
    let path = world().credentials_dir.join(format!("{user}.creds"));
    let options = async_nats::ConnectOptions::with_credentials_file(path)
        .await
        .expect("the service has credentials");
    let client = options
        .custom_inbox_prefix(format!("_INBOX_{user}"))
        .connect(&world().nats_url)
        .await
        .expect("the service connects");
    let id = kit::ctx::Clock::system().new_uuid().to_string();
    let mut headers = async_nats::HeaderMap::new();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", &id),
        ("ce-type", "catalyst.projects.v1.ProjectCreated"),
        ("ce-source", source),
        ("ce-subject", &id),
        ("ce-time", "2026-01-01T00:00:00Z"),
        ("ce-tenantid", &tenant.to_string()),
        ("ce-sequence", "1"),
        ("ce-authtype", "service"),
        ("ce-authid", "projects"),
    ] {
        headers.insert(name, value);
    }
    let answer = client
        .request_with_headers(subject, headers, "".into())
        .await
        .expect("the stream takes it");
    assert!(!String::from_utf8_lossy(&answer.payload).contains("error"));
}

/// The rejections on the platform's record that name `subject`.
async fn rejections(subject: &str) -> Vec<proto::common::v1::EventRejected> {
    let request = proto::audit::v1::ListTenantRecordsRequest {
        tenant_id: kit::TenantId::NONE.to_string(),
        page_size: 500,
        filter: Some(proto::audit::v1::RecordFilter {
            r#type: "catalyst.common.v1.EventRejected".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let listed = harness::Caller::operator()
        .audit_operator()
        .list_tenant_records(request)
        .await
        .expect("the operator lists")
        .into_inner();
    listed
        .records
        .into_iter()
        .filter_map(|record| record.record)
        .filter_map(|record| prost::Message::decode(record.payload.as_slice()).ok())
        .filter(|rejected: &proto::common::v1::EventRejected| rejected.subject == subject)
        .collect()
}

#[tokio::test]
async fn an_event_that_a_service_forges_for_another_tenant_is_rejected_and_on_record() {
    let (firm, other) = tokio::join!(Firm::new("Forged"), Firm::new("Other"));
    let subject = format!("{}.projects.project_created", firm.id);
    forges(
        "projects",
        format!("ingest.{subject}"),
        other.id,
        "catalyst/projects",
    )
    .await;
    let heard = format!("catalyst.{subject}");
    // Both consumers of that event refuse it.
    eventually("the rejections are on record", async || {
        let consumers: std::collections::HashSet<_> = rejections(&heard)
            .await
            .into_iter()
            .map(|rejected| rejected.consumer)
            .collect();
        (consumers.contains("audit") && consumers.contains("time-entries")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_event_from_another_source_than_its_subject_says_is_rejected() {
    let firm = Firm::new("Forged").await;
    let subject = format!("{}.projects.project_created", firm.id);
    forges(
        "projects",
        format!("ingest.{subject}"),
        firm.id,
        "catalyst/consultants",
    )
    .await;
    let heard = format!("catalyst.{subject}");
    eventually("the rejection is on record", async || {
        rejections(&heard).await.into_iter().next()
    })
    .await;
}

#[tokio::test]
async fn a_service_cannot_publish_another_services_events() {
    let firm = Firm::new("Forged").await;
    let path = world().credentials_dir.join("consultants.creds");
    let options = async_nats::ConnectOptions::with_credentials_file(path)
        .await
        .expect("the service has credentials");
    let client = options
        .custom_inbox_prefix("_INBOX_consultants")
        .request_timeout(Some(Duration::from_millis(500)))
        .connect(&world().nats_url)
        .await
        .expect("the service connects");
    let subject = format!("ingest.{}.projects.project_created", firm.id);
    let answer = client.request(subject, "".into()).await;
    assert!(answer.is_err(), "the broker took it: {answer:?}");
}

#[tokio::test]
async fn the_audit_log_keeps_versions_in_order_whatever_order_they_come_in() {
    let firm = Firm::new("Shuffled").await;
    let project = kit::ctx::Clock::system().new_uuid();
    let mut admin = sqlx::PgConnection::connect(&world().postgres_admin_url)
        .await
        .expect("connected");
    // In one transaction, so that they go to the broker in this order.
    let mut written = admin.begin().await.expect("begun");
    for version in [3_i64, 1, 2] {
        let body = projects::ProjectUpdated {
            project_id: project.to_string(),
            client_id: project.to_string(),
            code: "SHUFFLED".to_owned(),
            display_name: format!("Version {version}"),
            state: projects::ProjectState::Active.into(),
            ..Default::default()
        };
        sqlx::query(
            "insert into projects.outbox \
                 (tenant_id, event_id, type, aggregate_id, version, occurred_at, actor_kind, actor_id, traceparent, body) \
             values ($1, gen_random_uuid(), 'catalyst.projects.v1.ProjectUpdated', $2, $3, now(), 'user', 'suite', null, $4)",
        )
        .bind(firm.id.uuid())
        .bind(project)
        .bind(version)
        .bind(prost::Message::encode_to_vec(&body))
        .execute(&mut *written)
        .await
        .expect("written");
    }
    written.commit().await.expect("committed");
    let recorded = eventually("every version is on record", async || {
        let mut admin = sqlx::PgConnection::connect(&world().postgres_admin_url)
            .await
            .ok()?;
        let versions: Vec<i64> = sqlx::query_scalar(
            "select version from audit.record where tenant_id = $1 and resource_id = $2 order by sequence",
        )
        .bind(firm.id.uuid())
        .bind(project)
        .fetch_all(&mut admin)
        .await
        .ok()?;
        (versions.len() == 3).then_some(versions)
    })
    .await;
    assert_eq!(recorded, [1, 2, 3]);
}
