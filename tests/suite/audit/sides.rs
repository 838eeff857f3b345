//! Who may read what: either side of an attempt across tenants, and the operator.

use ::audit::chain::Verifier;
use ::audit::record::Log;
use harness::{Caller, Firm, eventually};
use kit::TenantId;
use proto::audit::v1 as pb;
use proto::common::v1 as common;
use tonic::Code;

use super::{
    alerts_of, asks_for, fields, first_alert, has_no_gaps, list, new_id, of_the_test, records,
    records_of_operator, told,
};

const ATTEMPT: &str = "catalyst.common.v1.CrossTenantAccessAttempted";

#[tokio::test]
async fn the_offenders_tenant_cannot_tell_an_attempt_from_a_miss() {
    let (offender, victim) = tokio::join!(Firm::new("Offender"), Firm::new("Victim"));
    let project = victim.creates_project("Secret").await;
    asks_for(&offender, "mallory", &project.id).await;
    eventually("the victim's alert", async || {
        alerts_of(&victim).await.into_iter().next()
    })
    .await;
    asks_for(&offender, "mallory", &new_id()).await;
    let records = records(&offender, 2).await;
    assert!(has_no_gaps(&records), "{records:?}");
    let seen = of_the_test(&records).map(|record| (record.r#type.as_str(), record.severity()));
    let miss = ("catalyst.common.v1.ResourceNotFound", common::Severity::Low);
    assert_eq!(seen.collect::<Vec<_>>(), [miss, miss]);

    let attempts = pb::RecordFilter {
        r#type: ATTEMPT.to_owned(),
        ..Default::default()
    };
    let shown = records_of_operator(&offender.id.to_string(), attempts).await;
    assert_eq!(
        shown.iter().map(|it| it.operator_only).collect::<Vec<_>>(),
        [true]
    );
    let hidden = shown
        .into_iter()
        .next()
        .and_then(|it| it.record)
        .expect("the record");
    let mut verifier = Verifier::new(offender.id, Log::Operator);
    assert_eq!(
        verifier.check(&told(offender.id, Log::Operator, hidden)),
        Ok(())
    );
}

#[tokio::test]
async fn the_victims_record_does_not_say_who_it_was() {
    let (offender, victim) = tokio::join!(Firm::new("Offender"), Firm::new("Victim"));
    let project = victim.creates_project("Secret").await;
    asks_for(&offender, "mallory", &project.id).await;
    let attempts = pb::RecordFilter {
        r#type: ATTEMPT.to_owned(),
        ..Default::default()
    };
    let record = eventually("the record", async || {
        list(&victim, attempts.clone()).await.into_iter().next()
    })
    .await;
    assert_eq!(record.resource_id, project.id);
    assert_eq!((record.actor.clone(), record.event_id.as_str()), (None, ""));
    let shown = format!("{record:?}");
    for secret in ["mallory", &offender.id.to_string(), "GetProject"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[tokio::test]
async fn the_operator_lists_and_settles_alerts_of_tenants() {
    let firm = Firm::new("Overseen").await;
    let alert = first_alert(&firm).await;
    let request = pb::ListTenantAlertsRequest {
        tenant_id: firm.id.to_string(),
        ..Default::default()
    };
    let listed = Caller::operator()
        .audit_operator()
        .list_tenant_alerts(request)
        .await
        .expect("listed")
        .into_inner();
    let ids: Vec<_> = listed
        .alerts
        .iter()
        .filter_map(|it| it.alert.as_ref())
        .map(|it| &it.id)
        .collect();
    assert_eq!(ids, [&alert.id]);

    let request = pb::AcknowledgeTenantAlertRequest {
        tenant_id: firm.id.to_string(),
        alert_id: alert.id.clone(),
        note: "looked into".to_owned(),
        request_id: new_id(),
        ..Default::default()
    };
    for _ in 0..2 {
        let settled = Caller::operator()
            .audit_operator()
            .acknowledge_tenant_alert(request.clone())
            .await;
        let settled = settled
            .expect("acknowledged")
            .into_inner()
            .alert
            .expect("the alert");
        assert_eq!(settled.tenant_id, firm.id.to_string());
    }
    let own = alerts_of(&firm)
        .await
        .into_iter()
        .next()
        .expect("the alert");
    assert_eq!(
        (own.state(), own.acknowledge_note.as_str()),
        (pb::AlertState::Acknowledged, "looked into")
    );

    let unknown = pb::AcknowledgeTenantAlertRequest {
        tenant_id: new_id(),
        request_id: String::new(),
        ..request
    };
    let refused = Caller::operator()
        .audit_operator()
        .acknowledge_tenant_alert(unknown)
        .await
        .expect_err("unknown");
    assert_eq!(refused.code(), Code::NotFound);
}

#[tokio::test]
async fn refusals_of_nobody_are_in_the_log_of_none() {
    let nobody = Caller::bare(TenantId::NONE);
    let request = pb::ListRecordsRequest::default();
    let refused = nobody
        .audit()
        .list_records(request)
        .await
        .expect_err("refused");
    assert_eq!(refused.code(), Code::Unauthenticated);
    let filter = pb::RecordFilter {
        r#type: "catalyst.common.v1.AuthenticationFailed".to_owned(),
        ..Default::default()
    };
    let listed = eventually("the count", async || {
        records_of_operator("none", filter.clone())
            .await
            .into_iter()
            .next()
    })
    .await;
    assert_eq!(listed.tenant_id, "none");
    assert_eq!(listed.record.and_then(|record| record.actor), None);
}

#[tokio::test]
async fn a_firms_admin_is_no_operator_and_an_operator_names_tenants_properly() {
    let firm = Firm::new("Curious").await;
    let request = pb::ListTenantRecordsRequest::default();
    let refused = firm
        .audit_operator()
        .list_tenant_records(request)
        .await
        .expect_err("refused");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let request = pb::ListTenantAlertsRequest::default();
    let refused = firm
        .audit_operator()
        .list_tenant_alerts(request)
        .await
        .expect_err("refused");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let request = pb::AcknowledgeTenantAlertRequest::default();
    let refused = firm
        .audit_operator()
        .acknowledge_tenant_alert(request.clone())
        .await
        .expect_err("refused");
    assert_eq!(refused.code(), Code::PermissionDenied);

    let refused = Caller::operator()
        .audit_operator()
        .acknowledge_tenant_alert(request)
        .await
        .expect_err("refused");
    assert_eq!(fields(&refused), ["tenant_id", "alert_id"]);
    let request = pb::ListTenantRecordsRequest {
        tenant_id: "acme".to_owned(),
        ..Default::default()
    };
    let refused = Caller::operator()
        .audit_operator()
        .list_tenant_records(request)
        .await
        .expect_err("refused");
    assert_eq!(fields(&refused), ["tenant_id"]);
}
