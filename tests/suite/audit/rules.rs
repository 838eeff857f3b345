//! Alert rules: thresholds are exact, and the file is read again when it changes.

use harness::{Caller, Firm, eventually, probe, world};
use kit::TenantId;
use proto::audit::v1 as pb;
use proto::common::v1 as common;
use proto::consultants::v1 as consultants;

use super::{alerts_of, events_of, fields, first_alert, is_denied, list, new_id, raises_alert};

const DENIED: &str = "catalyst.common.v1.PermissionDenied";

async fn alerts_of_rule(firm: &Firm, rule: &str) -> Vec<pb::Alert> {
    let request = pb::ListAlertsRequest {
        rule: rule.to_owned(),
        ..Default::default()
    };
    let listed = firm.audit().list_alerts(request).await;
    listed.expect("alerts are listed").into_inner().alerts
}

#[tokio::test]
async fn one_denial_less_than_the_threshold_raises_no_alert_and_the_next_one_does() {
    let firm = Firm::new("Threshold").await;
    for _ in 0..49 {
        is_denied(&firm, "kim").await;
    }
    is_denied(&firm, "lee").await;
    eventually("all are recorded", async || {
        let records = list(&firm, pb::RecordFilter::default()).await;
        (events_of(&records, DENIED) == 50).then_some(())
    })
    .await;
    assert!(alerts_of(&firm).await.is_empty(), "lee is not kim");
    is_denied(&firm, "kim").await;
    let alert = eventually("the alert", async || {
        alerts_of_rule(&firm, "permission-denials")
            .await
            .into_iter()
            .next()
    })
    .await;
    assert_eq!(
        (alert.occurrences, alert.severity()),
        (50, common::Severity::Medium)
    );
    is_denied(&firm, "kim").await;
    eventually("the repeat is counted in", async || {
        let alerts = alerts_of_rule(&firm, "permission-denials").await;
        let counts: Vec<i64> = alerts.iter().map(|it| it.occurrences).collect();
        (counts == [51]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn tokens_of_another_key_and_unknown_methods_alert_the_operator_by_their_source() {
    let forged = Caller::bare(TenantId::NONE)
        .with_token("eyJhbGciOiJFUzI1NiIsImtpZCI6Im5vYm9keSJ9.eyJzdWIiOiJ4In0.AAAA");
    for _ in 0..25 {
        let refused = forged
            .audit()
            .list_records(pb::ListRecordsRequest::default())
            .await;
        refused.expect_err("refused");
        probe(
            &forged,
            "catalyst.projects.v1.ProjectService/Steal",
            Vec::new(),
        )
        .await;
    }
    for rule in ["authentication-attack", "method-probing"] {
        let listed = eventually(rule, async || {
            let request = pb::ListTenantAlertsRequest {
                tenant_id: "none".to_owned(),
                rule: rule.to_owned(),
                ..Default::default()
            };
            let service = Caller::operator()
                .audit_operator()
                .list_tenant_alerts(request)
                .await;
            service.ok()?.into_inner().alerts.into_iter().next()
        })
        .await;
        let occurrences = listed.alert.map(|alert| alert.occurrences);
        assert!(occurrences >= Some(20), "{rule}: {occurrences:?}");
    }
}

#[tokio::test]
async fn a_changed_file_of_rules_is_in_use_within_seconds() {
    let _held = world().changing_rules.lock().await;
    let file = &world().alert_rules;
    let before = std::fs::read_to_string(file).expect("the rules");
    let write = |text: &str| {
        // As a ConfigMap does it: another file takes the name.
        let new = file.with_extension("new");
        std::fs::write(&new, text).expect("written");
        std::fs::rename(&new, file).expect("moved");
    };
    let firm = Firm::new("Reloaded").await;
    let misses = async |subject: &str| {
        let request = consultants::GetConsultantRequest {
            consultant_id: new_id(),
        };
        let kim = firm.user(subject, &["manager"]);
        let missed = kim.consultants().get_consultant(request).await;
        missed.expect_err("not found");
    };
    let rule = r#"
[[rule]]
name = "missing-consultants"
title = "A consultant was missed"
description = "From a file that changed."
severity = "LOW"
match = { types = ["ResourceNotFound"], resource_kinds = ["consultant"] }
routes = []
"#;
    write(&format!("{before}{rule}"));
    let alert = eventually("the new rule", async || {
        misses("kim").await;
        alerts_of_rule(&firm, "missing-consultants")
            .await
            .into_iter()
            .next()
    })
    .await;
    assert_eq!(alert.title, "A consultant was missed");
    assert_eq!(
        alert.delivery_state(),
        pb::AlertDeliveryState::NotConfigured
    );

    write(&before);
}

#[tokio::test]
async fn alerts_are_listed_by_rule_severity_and_time_and_a_page_serves_its_filter_alone() {
    let firm = Firm::new("Queried").await;
    let alert = first_alert(&firm).await;
    raises_alert(&firm, "lee").await;
    eventually("both", async || {
        (alerts_of(&firm).await.len() == 2).then_some(())
    })
    .await;
    let count = async |request: pb::ListAlertsRequest| {
        let listed = firm.audit().list_alerts(request).await;
        listed.expect("listed").into_inner().alerts.len()
    };
    let all = pb::ListAlertsRequest::default;
    let later = alert.first_occur_time.map(|at| prost_types::Timestamp {
        seconds: at.seconds + 3_600,
        ..at
    });
    let of_rule = |rule: &str| pb::ListAlertsRequest {
        rule: rule.to_owned(),
        ..all()
    };
    assert_eq!(count(of_rule("tenant-mismatch")).await, 2);
    assert_eq!(count(of_rule("cross-tenant-access")).await, 0);
    let severe = common::Severity::High.into();
    assert_eq!(
        count(pb::ListAlertsRequest {
            min_severity: severe,
            ..all()
        })
        .await,
        2
    );
    assert_eq!(
        count(pb::ListAlertsRequest {
            from_time: later,
            ..all()
        })
        .await,
        0
    );
    assert_eq!(
        count(pb::ListAlertsRequest {
            until_time: later,
            ..all()
        })
        .await,
        2
    );
    let first = alert.first_occur_time;
    assert_eq!(
        count(pb::ListAlertsRequest {
            until_time: first,
            ..all()
        })
        .await,
        0
    );

    let page = pb::ListAlertsRequest {
        page_size: 1,
        ..of_rule("tenant-mismatch")
    };
    let answered = firm
        .audit()
        .list_alerts(page)
        .await
        .expect("a page")
        .into_inner();
    let other = pb::ListAlertsRequest {
        page_token: answered.next_page_token,
        ..of_rule("event-rejected")
    };
    let refused = firm
        .audit()
        .list_alerts(other)
        .await
        .expect_err("another filter");
    assert_eq!(super::reason(&refused), "PAGE_TOKEN_INVALID");
    let wrong = pb::ListAlertsRequest {
        state: 99,
        min_severity: 99,
        ..all()
    };
    let refused = firm.audit().list_alerts(wrong).await.expect_err("refused");
    assert_eq!(fields(&refused), ["state", "min_severity"]);
}
