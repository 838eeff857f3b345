//! Sinks: each is told by itself, an Alertmanager until the alert is acknowledged.

use std::io::Write as _;

use harness::{Caller, Firm, eventually, world};
use proto::audit::v1 as pb;
use proto::projects::v1 as projects;

use super::{acknowledge, alerts_of};

/// Repeats the metadata, which the rule of two sinks is about.
async fn repeats_metadata(firm: &Firm) -> pb::Alert {
    let twice =
        Caller::user(firm.id, "kim", &["manager"]).with("x-tenant-id", &firm.id.to_string());
    let refused = twice
        .projects()
        .list_projects(projects::ListProjectsRequest::default())
        .await;
    refused.expect_err("refused");
    eventually("the alert", async || {
        let alerts = alerts_of(firm).await;
        alerts.into_iter().find(|it| it.rule == "repeated-metadata")
    })
    .await
}

fn ids(deliveries: Vec<harness::Delivery>, alert: &pb::Alert) -> Vec<String> {
    let ids = deliveries
        .into_iter()
        .filter_map(|it| Some(it.headers.get("webhook-id")?.to_str().ok()?.to_owned()));
    ids.filter(|id| *id == alert.id).collect()
}

#[tokio::test]
async fn a_sink_that_is_away_delays_no_other_and_is_told_once_when_it_is_back() {
    let firm = Firm::new("Doubled").await;
    let (pager, alertmanager) = (&world().pager, &world().alertmanager);
    pager.refuse(true);
    let alert = repeats_metadata(&firm).await;
    eventually("the Alertmanager has it", async || {
        alertmanager.firing(&alert.id).await
    })
    .await;
    eventually("the pager refused it", async || {
        (!ids(pager.refused(), &alert).is_empty()).then_some(())
    })
    .await;
    let state = async || {
        let alerts = alerts_of(&firm).await;
        alerts.first().map(pb::Alert::delivery_state)
    };
    assert_eq!(state().await, Some(pb::AlertDeliveryState::Pending));
    pager.refuse(false);
    eventually("every sink has it", async || {
        (state().await == Some(pb::AlertDeliveryState::Delivered)).then_some(())
    })
    .await;
    let told = ids(pager.accepted(), &alert);
    assert_eq!(told, std::slice::from_ref(&alert.id));
    assert!(
        ids(world().webhook.accepted(), &alert).is_empty(),
        "it is no route of the rule"
    );
}

#[tokio::test]
async fn an_alertmanager_has_the_alert_until_it_is_acknowledged_and_nothing_of_who_did_it() {
    let firm = Firm::new("Paged").await;
    let alertmanager = &world().alertmanager;
    let _ = writeln!(std::io::stderr(), "alerts go to {}", alertmanager.what);
    let alert = repeats_metadata(&firm).await;
    let firing = eventually(alertmanager.what, async || {
        alertmanager.firing(&alert.id).await
    })
    .await;
    let text = |pointer: &str| firing.pointer(pointer).and_then(serde_json::Value::as_str);
    assert_eq!(text("/labels/alertname"), Some("repeated-metadata"));
    assert_eq!(text("/labels/severity"), Some("low"));
    assert_eq!(text("/labels/tenant"), Some(firm.id.to_string().as_str()));
    assert_eq!(text("/annotations/summary"), Some("Metadata was repeated"));
    assert!(!firing.to_string().contains("kim"), "{firing}");

    let settled = firm.audit().acknowledge_alert(acknowledge(&alert)).await;
    settled.expect("acknowledged");
    eventually("it no longer fires", async || {
        alertmanager.firing(&alert.id).await.is_none().then_some(())
    })
    .await;
}
