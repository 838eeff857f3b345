//! Every attempt to cross a tenant line is seen: recorded, promoted, alerted and delivered; a mere mistake is not.

use data_encoding::BASE64;
use harness::{Caller, Firm, eventually, world};
use kit::ctx::Clock;
use proto::audit::v1 as audit;
use proto::projects::v1 as projects;
use tonic::Code;

async fn asks_for(firm: &Firm, subject: &str, project: &str) {
    let request = projects::GetProjectRequest {
        project_id: project.to_owned(),
    };
    let refused = firm
        .user(subject, &["manager"])
        .projects()
        .get_project(request)
        .await;
    assert_eq!(refused.expect_err("not found").code(), Code::NotFound);
}

async fn alerts(firm: &Firm) -> Vec<audit::Alert> {
    let request = audit::ListAlertsRequest {
        page_size: 100,
        ..Default::default()
    };
    firm.audit()
        .list_alerts(request)
        .await
        .expect("alerts are listed")
        .into_inner()
        .alerts
}

#[tokio::test]
async fn asking_for_another_tenants_project_raises_an_alert_within_five_seconds_and_delivers_it() {
    let (offender, victim) = tokio::join!(Firm::new("Offender"), Firm::new("Victim"));
    let project = victim.creates_project("Secret").await;
    let since = std::time::Instant::now();
    asks_for(&offender, "mallory", &project.id).await;
    let alert = eventually("the victim's alert", async || {
        alerts(&victim).await.into_iter().next()
    })
    .await;
    assert!(
        since.elapsed().as_secs() < 5,
        "the alert took {:?}",
        since.elapsed()
    );
    assert_eq!(alert.severity(), proto::common::v1::Severity::High);
    let told = format!("{} {}", alert.title, alert.description);
    assert!(
        !told.contains("mallory") && !told.contains(&offender.id.to_string()),
        "the victim learns who: {told}"
    );

    let delivery = eventually("the delivery", async || {
        world()
            .webhook
            .accepted()
            .into_iter()
            .find(|delivery| delivery.body.contains(&victim.id.to_string()))
    })
    .await;
    assert!(
        delivery.body.contains(&offender.id.to_string()),
        "the operator's webhook names both: {}",
        delivery.body
    );
    let text = |name: &str| {
        delivery
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    let secret = world()
        .webhook
        .secret
        .trim()
        .trim_start_matches("whsec_")
        .to_owned();
    let key = aws_lc_rs::hmac::Key::new(
        aws_lc_rs::hmac::HMAC_SHA256,
        &BASE64.decode(secret.as_bytes()).expect("base64"),
    );
    let signed = format!(
        "{}.{}.{}",
        text("webhook-id"),
        text("webhook-timestamp"),
        delivery.body
    );
    let expected = format!(
        "v1,{}",
        BASE64.encode(aws_lc_rs::hmac::sign(&key, signed.as_bytes()).as_ref())
    );
    assert_eq!(text("webhook-signature"), expected);
}

#[tokio::test]
async fn asking_for_an_id_that_nobody_has_raises_no_alert() {
    let (curious, victim) = tokio::join!(Firm::new("Curious"), Firm::new("Bystander"));
    asks_for(&curious, "kim", &Clock::system().new_uuid().to_string()).await;
    // A real attempt afterwards: once its alert is there, the miss before it has been judged as well.
    let project = victim.creates_project("Later").await;
    asks_for(&curious, "kim", &project.id).await;
    eventually("the later attempt's alert", async || {
        alerts(&victim).await.into_iter().next()
    })
    .await;
    assert_eq!(alerts(&victim).await.len(), 1);
    assert_eq!(
        alerts(&curious).await.len(),
        0,
        "the offender's own tenant learns nothing that a miss would not tell"
    );
}

#[tokio::test]
async fn an_attempt_on_a_project_created_a_moment_ago_is_seen_too() {
    let (offender, victim) = tokio::join!(Firm::new("Offender"), Firm::new("Victim"));
    let project = victim.creates_project("Fresh").await;
    asks_for(&offender, "mallory", &project.id).await;
    eventually("the alert", async || {
        alerts(&victim).await.into_iter().next()
    })
    .await;
}

#[tokio::test]
async fn the_operator_sees_both_parties_of_an_attempt() {
    let (offender, victim) = tokio::join!(Firm::new("Offender"), Firm::new("Victim"));
    let project = victim.creates_project("Secret").await;
    asks_for(&offender, "mallory", &project.id).await;
    let parties = eventually("the operator's record", async || {
        let request = audit::ListTenantRecordsRequest {
            tenant_id: victim.id.to_string(),
            page_size: 500,
            filter: Some(audit::RecordFilter {
                category: audit::RecordCategory::Security.into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let listed = Caller::operator()
            .audit_operator()
            .list_tenant_records(request)
            .await
            .ok()?
            .into_inner();
        listed.records.into_iter().find_map(|record| record.parties)
    })
    .await;
    assert_eq!(parties.offender_tenant_id, offender.id.to_string());
    assert_eq!(parties.victim_tenant_id, victim.id.to_string());
    assert_eq!(
        parties.offender.map(|offender| offender.id),
        Some("mallory".to_owned())
    );
}

#[tokio::test]
async fn a_domain_event_becomes_one_audit_record_that_keeps_it_whole() {
    let firm = Firm::new("Recorded").await;
    let project = firm.creates_project("Apollo").await;
    let record = eventually("the record of the project", async || {
        let filter = audit::RecordFilter {
            resource_id: project.id.clone(),
            ..Default::default()
        };
        let request = audit::ListRecordsRequest {
            filter: Some(filter),
            ..Default::default()
        };
        firm.audit()
            .list_records(request)
            .await
            .ok()?
            .into_inner()
            .records
            .into_iter()
            .next()
    })
    .await;
    assert_eq!(record.r#type, "catalyst.projects.v1.ProjectCreated");
    assert_eq!(record.headers.get("ce-subject"), Some(&project.id));
    let event: projects::ProjectCreated =
        prost::Message::decode(record.payload.as_slice()).expect("the event decodes");
    assert_eq!(event.project_id, project.id);
    assert_eq!(record.actor.map(|actor| actor.id), Some("admin".to_owned()));
}

#[tokio::test]
async fn a_watcher_hears_records_as_they_are_written() {
    let firm = Firm::new("Watched").await;
    let request = audit::WatchRecordsRequest {
        after_sequence: Some(0),
        ..Default::default()
    };
    let mut records = firm
        .audit()
        .watch_records(request)
        .await
        .expect("watching")
        .into_inner();
    let project = firm.creates_project("Apollo").await;
    let found = async {
        while let Some(next) = records.message().await.expect("the stream goes on") {
            if next
                .record
                .is_some_and(|record| record.resource_id == project.id)
            {
                return;
            }
        }
        panic!("the stream ended");
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), found)
        .await
        .expect("the record within 10 s");
}

#[tokio::test]
async fn an_acknowledged_alert_says_by_whom_and_stays_acknowledged() {
    let (offender, victim) = tokio::join!(Firm::new("Offender"), Firm::new("Victim"));
    let project = victim.creates_project("Secret").await;
    asks_for(&offender, "mallory", &project.id).await;
    let alert = eventually("the alert", async || {
        alerts(&victim).await.into_iter().next()
    })
    .await;
    let request = audit::AcknowledgeAlertRequest {
        alert_id: alert.id,
        note: "seen".to_owned(),
        ..Default::default()
    };
    for _ in 0..2 {
        let acknowledged = victim
            .audit()
            .acknowledge_alert(request.clone())
            .await
            .expect("acknowledged")
            .into_inner();
        let alert = acknowledged.alert.expect("the alert");
        assert_eq!(alert.state(), audit::AlertState::Acknowledged);
        assert_eq!(
            alert.acknowledged_by.map(|actor| actor.id),
            Some("admin".to_owned())
        );
    }
}
