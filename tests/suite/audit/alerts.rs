//! Alerts: counted, settled once, raised anew, and delivered until they are accepted.

use harness::{Firm, eventually, world};
use proto::audit::v1 as pb;
use tonic::Code;

use super::{acknowledge, alerts_of, fields, first_alert, list, new_id, raises_alert, reason};

#[tokio::test]
async fn repeats_of_one_caller_are_counted_and_another_caller_is_another_alert() {
    let firm = Firm::new("Counted").await;
    for subject in ["kim", "kim", "kim", "lee"] {
        raises_alert(&firm, subject).await;
    }
    let counted = eventually("both alerts", async || {
        let mut occurrences: Vec<i64> = alerts_of(&firm)
            .await
            .iter()
            .map(|alert| alert.occurrences)
            .collect();
        occurrences.sort_unstable();
        (occurrences == [1, 3]).then_some(())
    });
    counted.await;
}

#[tokio::test]
async fn an_alert_is_acknowledged_once_whatever_is_repeated() {
    let firm = Firm::new("Settled").await;
    let alert = first_alert(&firm).await;
    let request = pb::AcknowledgeAlertRequest {
        request_id: new_id(),
        ..acknowledge(&alert)
    };
    let first = firm
        .audit()
        .acknowledge_alert(request.clone())
        .await
        .expect("acknowledged")
        .into_inner();
    let again = firm
        .audit()
        .acknowledge_alert(request.clone())
        .await
        .expect("repeated")
        .into_inner();
    assert_eq!(first, again);
    let other = pb::AcknowledgeAlertRequest {
        note: "another".to_owned(),
        ..request
    };
    let refused = firm
        .audit()
        .acknowledge_alert(other)
        .await
        .expect_err("another request");
    assert_eq!(reason(&refused), "REQUEST_ID_REUSED");

    let emitted = pb::RecordFilter {
        r#type: "catalyst.audit.v1.AlertAcknowledged".to_owned(),
        ..Default::default()
    };
    let told = eventually("the event", async || {
        list(&firm, emitted.clone()).await.into_iter().next()
    })
    .await;
    assert_eq!(
        told.headers.get("ce-sequence").map(String::as_str),
        Some("2")
    );
}

#[tokio::test]
async fn an_event_after_the_acknowledgement_raises_a_new_alert() {
    let firm = Firm::new("Again").await;
    let alert = first_alert(&firm).await;
    firm.audit()
        .acknowledge_alert(acknowledge(&alert))
        .await
        .expect("acknowledged");
    raises_alert(&firm, "kim").await;
    let newest = eventually("the new alert", async || {
        let open = pb::ListAlertsRequest {
            state: pb::AlertState::Open.into(),
            ..Default::default()
        };
        firm.audit()
            .list_alerts(open)
            .await
            .ok()?
            .into_inner()
            .alerts
            .into_iter()
            .next()
    })
    .await;
    assert_ne!(newest.id, alert.id);
    let settled = pb::ListAlertsRequest {
        state: pb::AlertState::Acknowledged.into(),
        ..Default::default()
    };
    let settled = firm
        .audit()
        .list_alerts(settled)
        .await
        .expect("listed")
        .into_inner()
        .alerts;
    assert_eq!(
        settled.iter().map(|it| &it.id).collect::<Vec<_>>(),
        [&alert.id]
    );
}

#[tokio::test]
async fn an_acknowledgement_with_a_stale_etag_is_refused() {
    let firm = Firm::new("Stale").await;
    let alert = first_alert(&firm).await;
    raises_alert(&firm, "kim").await;
    eventually("the repeat is counted", async || {
        alerts_of(&firm)
            .await
            .first()
            .is_some_and(|alert| alert.occurrences == 2)
            .then_some(())
    })
    .await;
    let request = pb::AcknowledgeAlertRequest {
        etag: alert.etag.clone(),
        ..acknowledge(&alert)
    };
    let refused = firm
        .audit()
        .acknowledge_alert(request)
        .await
        .expect_err("stale");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Aborted, "ETAG_STALE")
    );
}

#[tokio::test]
async fn an_alert_that_is_unknown_and_one_of_another_firm_are_not_found_alike() {
    let (firm, other) = tokio::join!(Firm::new("Own"), Firm::new("Other"));
    let alert = first_alert(&other).await;
    let foreign = firm
        .audit()
        .acknowledge_alert(acknowledge(&alert))
        .await
        .expect_err("not found");
    let unknown = pb::AcknowledgeAlertRequest {
        alert_id: new_id(),
        ..acknowledge(&alert)
    };
    let unknown = firm
        .audit()
        .acknowledge_alert(unknown)
        .await
        .expect_err("not found");
    assert_eq!(
        (foreign.code(), foreign.message()),
        (Code::NotFound, unknown.message())
    );
    assert_eq!(foreign.details(), unknown.details());
    let request = pb::AcknowledgeAlertRequest {
        alert_id: "nonsense".to_owned(),
        ..Default::default()
    };
    let refused = firm
        .audit()
        .acknowledge_alert(request)
        .await
        .expect_err("no id");
    assert_eq!(fields(&refused), ["alert_id"]);
}

#[tokio::test]
async fn an_alert_that_was_not_accepted_is_sent_again_under_the_same_id_and_then_no_more() {
    let firm = Firm::new("Persistent").await;
    let webhook = &world().webhook;
    let about = |deliveries: Vec<harness::Delivery>| {
        let named = firm.id.to_string();
        let ids = deliveries
            .into_iter()
            .filter(|it| it.body.contains(&named))
            .map(|it| it.headers["webhook-id"].clone());
        ids.collect::<Vec<_>>()
    };
    webhook.refuse(true);
    let alert = first_alert(&firm).await;
    let refused = eventually("a refusal", async || {
        about(webhook.refused()).into_iter().next()
    })
    .await;
    webhook.refuse(false);
    eventually("the alert is delivered", async || {
        let alert = alerts_of(&firm).await.into_iter().next()?;
        (alert.delivery_state() == pb::AlertDeliveryState::Delivered).then_some(())
    })
    .await;
    assert_eq!(about(webhook.accepted()), [refused]);
    assert_eq!(about(webhook.accepted())[0], alert.id.as_str());
}
