//! The log as its firm reads it: without gaps, chained, filtered, and by those only who may.

use ::audit::chain::Verifier;
use ::audit::record::Log;
use harness::Firm;
use proto::audit::v1 as pb;
use proto::common::v1 as common;
use tonic::Code;

use super::{asks_for, fields, has_no_gaps, list, new_id, raises_alert, reason, records, told};

#[tokio::test]
async fn a_log_counts_its_records_without_gaps_and_pages_through_them_in_order() {
    let firm = Firm::new("Paged").await;
    firm.creates_project("Apollo").await;
    firm.creates_project("Gemini").await;
    let all = records(&firm, 4).await;
    assert!(has_no_gaps(&all), "{all:?}");

    let mut paged = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListRecordsRequest {
            page_size: 3,
            page_token,
            filter: None,
        };
        let page = firm
            .audit()
            .list_records(request)
            .await
            .expect("a page")
            .into_inner();
        assert!(page.records.len() <= 3);
        paged.extend(page.records);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    // What came in between is after it.
    paged.truncate(all.len());
    assert_eq!(paged, all);
}

#[tokio::test]
async fn a_reader_can_verify_the_chain_from_what_it_is_told() {
    let firm = Firm::new("Chained").await;
    let project = firm.creates_project("Apollo").await;
    asks_for(&firm, "kim", &new_id()).await;
    raises_alert(&firm, "kim").await;
    // The client, the project, the miss, the mismatch and the alert.
    let records = records(&firm, 5).await;
    assert!(
        records
            .iter()
            .any(|record| record.resource_id == project.id)
    );
    let mut verifier = Verifier::new(firm.id, Log::Tenant);
    for record in records {
        let record = told(firm.id, Log::Tenant, record);
        assert_eq!(verifier.check(&record), Ok(()), "{record:?}");
    }
}

#[tokio::test]
async fn every_filter_that_is_set_must_hold() {
    let firm = Firm::new("Filtered").await;
    let project = firm.creates_project("Apollo").await;
    asks_for(&firm, "kim", &new_id()).await;
    raises_alert(&firm, "lee").await;
    records(&firm, 5).await;
    let filter = pb::RecordFilter::default;
    let of_project = pb::RecordFilter {
        resource_id: project.id.clone(),
        ..filter()
    };
    let severe = pb::RecordFilter {
        min_severity: common::Severity::High.into(),
        ..filter()
    };
    let by_kim = pb::RecordFilter {
        actor_id: "kim".to_owned(),
        ..filter()
    };
    let domain = pb::RecordFilter {
        category: pb::RecordCategory::Domain.into(),
        ..filter()
    };
    let clients = pb::RecordFilter {
        resource_kind: "client".to_owned(),
        ..filter()
    };
    let created = pb::RecordFilter {
        r#type: "catalyst.projects.v1.ProjectCreated".to_owned(),
        ..filter()
    };
    for (filter, expected) in [
        (&of_project, 1),
        (&severe, 1),
        (&by_kim, 1),
        (&domain, 3),
        (&clients, 1),
        (&created, 1),
    ] {
        assert_eq!(
            list(&firm, filter.clone()).await.len(),
            expected,
            "{filter:?}"
        );
    }
    let both = pb::RecordFilter {
        actor_id: "kim".to_owned(),
        ..of_project
    };
    assert_eq!(list(&firm, both).await, []);
}

#[tokio::test]
async fn a_filter_by_time_keeps_the_beginning_and_leaves_out_the_end() {
    let firm = Firm::new("Timed").await;
    firm.creates_project("Apollo").await;
    firm.creates_project("Gemini").await;
    let all = records(&firm, 4).await;
    let at = all
        .iter()
        .max_by_key(|record| record.occur_time.map(|at| (at.seconds, at.nanos)))
        .expect("one");
    let from = list(
        &firm,
        pb::RecordFilter {
            from_time: at.occur_time,
            ..Default::default()
        },
    )
    .await;
    assert_eq!(from.iter().collect::<Vec<_>>(), [at]);
    let until = pb::RecordFilter {
        until_time: at.occur_time,
        ..Default::default()
    };
    let until = list(&firm, until).await;
    assert!(
        all.iter()
            .all(|record| until.contains(record) == (record != at))
    );
}

#[tokio::test]
async fn every_field_of_a_filter_that_cannot_be_read_is_named_at_once() {
    let firm = Firm::new("Misread").await;
    let filter = pb::RecordFilter {
        category: 99,
        min_severity: 99,
        resource_id: "nonsense".to_owned(),
        from_time: Some(prost_types::Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        }),
        ..Default::default()
    };
    let request = pb::ListRecordsRequest {
        filter: Some(filter.clone()),
        ..Default::default()
    };
    let refused = firm
        .audit()
        .list_records(request)
        .await
        .expect_err("refused");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let expected = [
        "filter.from_time",
        "filter.category",
        "filter.min_severity",
        "filter.resource_id",
    ];
    assert_eq!(fields(&refused), expected);

    let request = pb::WatchRecordsRequest {
        filter: None,
        after_sequence: Some(-1),
    };
    let refused = firm
        .audit()
        .watch_records(request)
        .await
        .expect_err("refused");
    assert_eq!(fields(&refused), ["after_sequence"]);
}

#[tokio::test]
async fn only_admins_and_auditors_read_the_log() {
    let firm = Firm::new("Closed").await;
    for role in ["manager", "consultant", "viewer"] {
        let request = pb::ListRecordsRequest::default();
        let refused = firm
            .user("kim", &[role])
            .audit()
            .list_records(request)
            .await
            .expect_err("refused");
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::PermissionDenied, "PERMISSION_DENIED")
        );
        let request = pb::WatchRecordsRequest::default();
        let refused = firm
            .user("kim", &[role])
            .audit()
            .watch_records(request)
            .await
            .expect_err("refused");
        assert_eq!(refused.code(), Code::PermissionDenied);
    }
    let auditor = firm.user("kim", &["auditor"]);
    auditor
        .audit()
        .list_records(pb::ListRecordsRequest::default())
        .await
        .expect("an auditor reads");
}
