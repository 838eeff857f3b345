//! Floods: alerts count every event, the log holds the first ones singly and the others as counts, and none is lost.

use std::io::Write as _;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use harness::{Caller, Firm, eventually, within};
use proto::audit::v1 as pb;
use proto::projects::v1 as projects;
use tonic::Code;

use super::{alerts_of, asks_for, events_of, is_denied, list, reason, records_of_operator};

const MISS: &str = "catalyst.common.v1.ResourceNotFound";
const ATTEMPT: &str = "catalyst.common.v1.CrossTenantAccessAttempted";
const DENIED: &str = "catalyst.common.v1.PermissionDenied";
const PROBES: i64 = 10_000;
/// What a slow machine may need for what is promised within five seconds.
const PATIENCE: Duration = Duration::from_mins(1);

fn security() -> pb::RecordFilter {
    pb::RecordFilter {
        category: pb::RecordCategory::Security.into(),
        ..Default::default()
    }
}

/// Names a project in vain. On a busy machine the first calls may find no connection in time: no row was read then and
/// nothing recorded, and the contract says to repeat the call.
async fn probe(caller: &Caller, project: &str) {
    let refused = eventually("a connection", async || {
        let request = projects::GetProjectRequest {
            project_id: project.to_owned(),
        };
        let refused = caller.projects().get_project(request).await;
        let refused = refused.expect_err("no one finds it");
        (reason(&refused) != "DATABASE_UNAVAILABLE").then_some(refused)
    })
    .await;
    assert_eq!(refused.code(), Code::NotFound, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_probes_of_one_user_and_one_of_another_are_two_alerts_with_exact_counts() {
    let (offender, victim) = tokio::join!(Firm::new("Flooder"), Firm::new("Flooded"));
    let project = victim.creates_project("Secret").await;
    let mallory = offender.user("mallory", &["manager"]);
    let began = Instant::now();
    stream::iter(0..PROBES)
        .for_each_concurrent(32, async |_| probe(&mallory, &project.id).await)
        .await;
    asks_for(&offender, "trudy", &project.id).await;
    let last = Instant::now();

    let counted = within(PATIENCE, async || {
        let alerts = alerts_of(&victim).await;
        let mut counts: Vec<i64> = alerts.iter().map(|it| it.occurrences).collect();
        counts.sort_unstable();
        (counts == [1, PROBES]).then_some(alerts)
    })
    .await;
    let alerts = counted.expect("both alerts with their counts");
    let _ = writeln!(
        std::io::stderr(),
        "{PROBES} probes in {:?}; both alerts complete {:?} after the last",
        last - began,
        last.elapsed()
    );
    for alert in &alerts {
        assert_eq!(alert.rule, "cross-tenant-access");
        let shown = format!("{alert:?}");
        assert!(!shown.contains("mallory") && !shown.contains(&offender.id.to_string()));
    }
    assert!(alerts_of(&offender).await.is_empty(), "a miss says nothing");

    // Every event is in either log once, singly or in a count, and the logs stay small.
    for (firm, type_name) in [(&offender, MISS), (&victim, ATTEMPT)] {
        let records = within(PATIENCE, async || {
            let records = list(firm, security()).await;
            (events_of(&records, type_name) == PROBES + 1).then_some(records)
        })
        .await;
        let records = records.unwrap_or_else(|| panic!("{type_name} is not counted exactly"));
        assert!(
            records.len() < 480,
            "{} records of {type_name}",
            records.len()
        );
    }
    let hidden = within(PATIENCE, async || {
        let shown = records_of_operator(&offender.id.to_string(), security()).await;
        let hidden: Vec<pb::AuditRecord> = shown
            .into_iter()
            .filter(|it| it.operator_only)
            .filter_map(|it| it.record)
            .collect();
        (events_of(&hidden, ATTEMPT) == PROBES + 1).then_some(())
    });
    hidden.await.expect("the operator's log counts them too");
}

#[tokio::test]
async fn the_victims_aggregate_names_the_resources_and_not_who_it_was() {
    let (offender, victim) = tokio::join!(Firm::new("Flooder"), Firm::new("Flooded"));
    let project = victim.creates_project("Secret").await;
    for _ in 0..30 {
        asks_for(&offender, "mallory", &project.id).await;
    }
    let records = eventually("every attempt is counted", async || {
        let records = list(&victim, security()).await;
        (events_of(&records, ATTEMPT) == 30).then_some(records)
    })
    .await;
    let aggregates = records
        .iter()
        .filter(|record| record.r#type.ends_with("SecurityEventsAggregated"));
    for record in aggregates {
        let aggregate: proto::common::v1::SecurityEventsAggregated =
            prost::Message::decode(record.payload.as_slice()).expect("an aggregate");
        assert_eq!(aggregate.resource_ids, std::slice::from_ref(&project.id));
        assert_eq!(record.severity(), proto::common::v1::Severity::High);
        let shown = format!("{record:?}");
        assert!(!shown.contains("mallory") && !shown.contains(&offender.id.to_string()));
    }
}

#[tokio::test]
async fn a_caller_that_is_denied_without_end_does_not_fill_the_log() {
    let firm = Firm::new("Denied").await;
    let kim = stream::iter(0..200).for_each_concurrent(32, async |_| is_denied(&firm, "kim").await);
    tokio::join!(kim, is_denied(&firm, "lee"));
    let records = eventually("every denial is counted", async || {
        let records = list(&firm, security()).await;
        (events_of(&records, DENIED) == 201).then_some(records)
    })
    .await;
    let singles = |actor: &str| {
        let own = records.iter().filter(|record| {
            record.r#type == DENIED && record.actor.as_ref().is_some_and(|it| it.id == actor)
        });
        own.count()
    };
    assert!((20..200).contains(&singles("kim")), "{}", singles("kim"));
    assert_eq!(singles("lee"), 1, "another principal is not hidden");
}
