//! Watches: they go on where they ended, and end when they must.

use harness::{Caller, Firm};
use proto::audit::v1 as pb;
use proto::tenants::v1 as tenants;
use tonic::Code;

use super::{reason, records};

#[tokio::test]
async fn a_watch_goes_on_after_the_sequence_that_was_seen_and_repeats_nothing() {
    let firm = Firm::new("Resumed").await;
    firm.creates_project("Apollo").await;
    records(&firm, 2).await;
    let request = pb::WatchRecordsRequest {
        filter: None,
        after_sequence: Some(1),
    };
    let mut watch = firm
        .audit()
        .watch_records(request)
        .await
        .expect("watching")
        .into_inner();
    firm.creates_project("Gemini").await;
    for sequence in 2..=4 {
        let next = watch
            .message()
            .await
            .expect("the stream goes on")
            .expect("a record");
        assert_eq!(next.record.map(|record| record.sequence), Some(sequence));
    }
}

#[tokio::test]
async fn a_watch_without_a_sequence_tells_only_of_what_comes() {
    let firm = Firm::new("Fresh").await;
    firm.creates_project("Apollo").await;
    let before = records(&firm, 2).await;
    let request = pb::WatchRecordsRequest::default();
    let mut watch = firm
        .audit()
        .watch_records(request)
        .await
        .expect("watching")
        .into_inner();
    firm.creates_project("Gemini").await;
    let next = watch
        .message()
        .await
        .expect("the stream goes on")
        .expect("a record");
    let first = next.record.expect("the record");
    assert!(before.iter().all(|record| record.sequence < first.sequence));
}

#[tokio::test]
async fn a_firm_that_watches_much_keeps_no_watch_from_another() {
    let [busy, other] = [Firm::new("Watchful").await, Firm::new("Curious").await];
    let request = pb::WatchRecordsRequest::default;
    let mut watches = Vec::new();
    for _ in 0..64 {
        let watch = busy.audit().watch_records(request()).await;
        watches.push(watch.expect("watching"));
    }
    let refused = busy.audit().watch_records(request()).await;
    let refused = refused.expect_err("refused");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(reason(&refused), "OVERLOADED");
    assert!(other.audit().watch_records(request()).await.is_ok());
    watches.pop();
    harness::eventually("a watch that ends makes room", async || {
        busy.audit().watch_records(request()).await.ok().map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_watch_ends_when_its_tenant_is_suspended() {
    let firm = Firm::new("Suspended").await;
    let request = pb::WatchRecordsRequest::default();
    let mut watch = firm
        .audit()
        .watch_records(request)
        .await
        .expect("watching")
        .into_inner();
    let request = tenants::SuspendTenantRequest {
        tenant_id: firm.id.to_string(),
        reason: "unpaid".to_owned(),
        ..Default::default()
    };
    Caller::operator()
        .tenants()
        .suspend_tenant(request)
        .await
        .expect("suspended");
    let ended = tokio::time::timeout(std::time::Duration::from_secs(5), watch.message()).await;
    let refused = ended.expect("within 5 s").expect_err("refused");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::PermissionDenied, "TENANT_NOT_ACTIVE")
    );
}
