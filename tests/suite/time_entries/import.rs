//! Importing many entries: what becomes of each row, whatever stands beside it and whoever imports at the same time.

use std::time::Duration;

use futures::{SinkExt as _, channel::mpsc};
use harness::{Caller, eventually};
use proto::audit::v1 as audit;
use proto::common::v1::ErrorReason;
use proto::tenants::v1 as tenants;
use proto::time_entries::v1 as pb;
use proto::time_entries::v1::ImportOutcome::{
    AlreadyExists, Created, CreatedOverlapping, Rejected,
};
use tonic::{Code, Status};

use super::{Ear, Scene, assert_refused, get, invalid_fields, later, list, new_id};

/// An hour of work that begins at `hour` o'clock, known as `external_id`.
pub(super) fn row(scene: &Scene, hour: i64, external_id: &str) -> pb::ImportRow {
    let entry = scene.hour(hour);
    pb::ImportRow {
        external_id: external_id.to_owned(),
        project_id: entry.project_id,
        consultant_id: entry.consultant_id,
        started_at: entry.started_at,
        ended_at: entry.ended_at,
        time_zone: entry.time_zone,
        ..Default::default()
    }
}

pub(super) fn chunk(rows: Vec<pb::ImportRow>) -> pb::ImportTimeEntriesRequest {
    pb::ImportTimeEntriesRequest {
        rows,
        ..Default::default()
    }
}

fn keeping(rows: Vec<pb::ImportRow>) -> pb::ImportTimeEntriesRequest {
    pb::ImportTimeEntriesRequest {
        overlap_policy: pb::OverlapPolicy::Keep.into(),
        ..chunk(rows)
    }
}

/// The results of each chunk.
pub(super) async fn send(
    caller: &Caller,
    chunks: Vec<pb::ImportTimeEntriesRequest>,
) -> Result<Vec<Vec<pb::ImportRowResult>>, Status> {
    let mut answers = caller
        .time_entries()
        .import_time_entries(futures::stream::iter(chunks))
        .await?
        .into_inner();
    let mut results = Vec::new();
    while let Some(answer) = answers.message().await? {
        results.push(answer.results);
    }
    Ok(results)
}

/// The results of one chunk.
async fn import(scene: &Scene, chunk: pb::ImportTimeEntriesRequest) -> Vec<pb::ImportRowResult> {
    send(&scene.firm, vec![chunk])
        .await
        .expect("imported")
        .pop()
        .expect("an answer")
}

fn outcomes(results: &[pb::ImportRowResult]) -> Vec<pb::ImportOutcome> {
    results.iter().map(pb::ImportRowResult::outcome).collect()
}

#[tokio::test]
async fn imported_rows_are_entries_like_any_other() {
    let scene = Scene::new().await;
    let row = pb::ImportRow {
        break_minutes: 15,
        note: "history".to_owned(),
        ..row(&scene, 23, "a")
    };
    let results = import(&scene, chunk(vec![row])).await;
    assert_eq!(outcomes(&results), [Created]);
    let id = &results.first().expect("a result").time_entry_id;
    let entry = get(&scene.firm, id).await.expect("found");
    let expected = pb::TimeEntry {
        id: id.clone(),
        break_minutes: 15,
        worked_minutes: 45,
        worked_on: "2026-03-03".to_owned(),
        billable: Some(true),
        note: "history".to_owned(),
        external_id: "a".to_owned(),
        etag: "1".to_owned(),
        create_time: entry.create_time,
        update_time: entry.create_time,
        ..scene.hour(23)
    };
    assert_eq!(entry, expected);
}

#[tokio::test]
async fn each_stored_row_is_told_in_the_order_of_the_rows() {
    let scene = Scene::new().await;
    let mut ear = Ear::of(&scene.firm).await;
    let rows = (0..20).map(|i| row(&scene, i, &format!("r{i}"))).collect();
    let results = import(&scene, chunk(rows)).await;
    for (i, result) in results.into_iter().enumerate() {
        let (aggregate, version, event) = ear.hears::<pb::TimeEntryCreated>().await;
        assert_eq!((aggregate, version), (result.time_entry_id, 1));
        assert_eq!(event.external_id, format!("r{i}"));
    }
}

#[tokio::test]
async fn a_chunk_sent_twice_is_stored_once() {
    let scene = Scene::new().await;
    let rows: Vec<_> = (0..5).map(|i| row(&scene, i, &format!("r{i}"))).collect();
    for request in [chunk(rows.clone()), keeping(rows)] {
        let answers = send(&scene.firm, vec![request.clone(), request])
            .await
            .expect("imported");
        let [first, second] = answers.as_slice() else {
            panic!("{answers:?}")
        };
        assert_eq!(outcomes(second), [AlreadyExists; 5]);
        let ids = |results: &[pb::ImportRowResult]| -> Vec<String> {
            results
                .iter()
                .map(|result| result.time_entry_id.clone())
                .collect()
        };
        assert_eq!(ids(first), ids(second));
    }
    assert_eq!(
        list(&scene.firm, pb::ListTimeEntriesRequest::default())
            .await
            .len(),
        5
    );
}

#[tokio::test]
async fn a_row_that_breaks_a_rule_is_rejected_with_its_reason_and_harms_no_other() {
    let scene = Scene::new().await;
    let good = |hour, key| row(&scene, hour, key);
    let rows = vec![
        good(1, "a"),
        pb::ImportRow {
            external_id: " ".to_owned(),
            ..good(2, "")
        },
        pb::ImportRow {
            ended_at: later(good(3, "c").started_at, -1),
            ..good(3, "c")
        },
        pb::ImportRow {
            time_zone: "Mars/Olympus".to_owned(),
            project_id: "x".to_owned(),
            ..good(4, "d")
        },
        pb::ImportRow {
            ended_at: later(good(5, "e").started_at, 1_441),
            ..good(5, "e")
        },
        pb::ImportRow {
            project_id: new_id(),
            ..good(6, "f")
        },
        pb::ImportRow {
            consultant_id: new_id(),
            ..good(7, "g")
        },
        good(8, "h"),
    ];
    let results = import(&scene, chunk(rows)).await;
    let told: Vec<_> = results
        .iter()
        .map(|result| (result.reason(), result.message.as_str()))
        .collect();
    let expected = [
        (ErrorReason::Unspecified, ""),
        (
            ErrorReason::InvalidFields,
            "external_id is required: 1 to 128 characters",
        ),
        (
            ErrorReason::InvalidFields,
            "ended_at must not be before started_at",
        ),
        (
            ErrorReason::InvalidFields,
            "project_id must be a UUID; time_zone must be an IANA time zone, as in Europe/Vienna",
        ),
        (
            ErrorReason::TimeEntryTooLong,
            "the time entry lasts longer than 1440 minutes: split it",
        ),
        (ErrorReason::NotFound, "project_id: project not found"),
        (ErrorReason::NotFound, "consultant_id: consultant not found"),
        (ErrorReason::Unspecified, ""),
    ];
    assert_eq!(told, expected);
    let mut outcomes = outcomes(&results);
    outcomes.dedup();
    assert_eq!(outcomes, [Created, Rejected, Created]);
}

#[tokio::test]
async fn an_id_that_nobody_knows_is_on_record() {
    let scene = Scene::new().await;
    let stray = new_id();
    import(
        &scene,
        chunk(vec![pb::ImportRow {
            project_id: stray.clone(),
            ..row(&scene, 1, "a")
        }]),
    )
    .await;
    eventually("the miss is on record", async || {
        let filter = audit::RecordFilter {
            r#type: "catalyst.common.v1.ResourceNotFound".to_owned(),
            resource_id: stray.clone(),
            ..Default::default()
        };
        let request = audit::ListRecordsRequest {
            filter: Some(filter),
            ..Default::default()
        };
        let records = scene
            .firm
            .audit()
            .list_records(request)
            .await
            .ok()?
            .into_inner()
            .records;
        records.into_iter().next()
    })
    .await;
}

#[tokio::test]
async fn rows_that_overlap_are_rejected_the_later_one_of_a_chunk_too() {
    let scene = Scene::new().await;
    scene.records(1).await;
    let shifted = pb::ImportRow {
        started_at: later(scene.hour(5).started_at, 30),
        ..row(&scene, 5, "c")
    };
    let rows = vec![
        row(&scene, 1, "a"),
        row(&scene, 5, "b"),
        shifted,
        row(&scene, 6, "d"),
    ];
    let results = import(&scene, chunk(rows)).await;
    assert_eq!(outcomes(&results), [Rejected, Created, Rejected, Created]);
    let reasons: Vec<_> = results.iter().map(pb::ImportRowResult::reason).collect();
    let overlaps = ErrorReason::TimeEntryOverlaps;
    assert_eq!(
        reasons,
        [
            overlaps,
            ErrorReason::Unspecified,
            overlaps,
            ErrorReason::Unspecified
        ]
    );
}

#[tokio::test]
async fn rows_that_overlap_are_kept_and_marked_when_the_caller_says_so() {
    let scene = Scene::new().await;
    let rows = vec![
        row(&scene, 1, "a"),
        row(&scene, 1, "b"),
        row(&scene, 1, "c"),
    ];
    let mut ear = Ear::of(&scene.firm).await;
    let results = import(&scene, keeping(rows.clone())).await;
    assert_eq!(
        outcomes(&results),
        [Created, CreatedOverlapping, CreatedOverlapping]
    );
    for (result, kept) in results.iter().zip([false, true, true]) {
        assert_eq!(
            get(&scene.firm, &result.time_entry_id)
                .await
                .expect("found")
                .overlap_kept,
            kept
        );
        assert_eq!(
            ear.hears::<pb::TimeEntryCreated>().await.2.overlap_kept,
            kept
        );
    }
    assert_eq!(
        outcomes(&import(&scene, keeping(rows)).await),
        [AlreadyExists; 3]
    );
}

#[tokio::test]
async fn an_external_id_that_stands_twice_in_a_chunk_is_stored_once() {
    let scene = Scene::new().await;
    for (policy, hour) in [(chunk(vec![]), 1), (keeping(vec![]), 10)] {
        let key = format!("twin-{hour}");
        let rows = vec![row(&scene, hour, &key), row(&scene, hour + 1, &key)];
        let results = import(&scene, pb::ImportTimeEntriesRequest { rows, ..policy }).await;
        assert_eq!(outcomes(&results), [Created, AlreadyExists]);
        assert_eq!(
            results.first().map(|it| &it.time_entry_id),
            results.last().map(|it| &it.time_entry_id)
        );
    }
}

#[tokio::test]
async fn history_may_hold_entries_longer_than_a_day_as_far_as_the_caller_says() {
    let scene = Scene::new().await;
    let two_days = pb::ImportRow {
        ended_at: later(scene.hour(1).started_at, 2_880),
        ..row(&scene, 1, "a")
    };
    let request = |minutes| pb::ImportTimeEntriesRequest {
        max_duration_minutes: Some(minutes),
        ..chunk(vec![two_days.clone()])
    };
    assert_eq!(outcomes(&import(&scene, request(2_879)).await), [Rejected]);
    assert_eq!(outcomes(&import(&scene, request(2_880)).await), [Created]);
}

#[tokio::test]
async fn a_thousand_rows_of_projects_and_consultants_that_are_new_here_are_stored_at_once() {
    let scene = Scene::new().await;
    let rows = (0..1_000)
        .map(|i| row(&scene, i, &format!("r{i}")))
        .collect();
    let results = import(&scene, chunk(rows)).await;
    assert_eq!(outcomes(&results), [Created; 1_000]);
}

#[tokio::test]
async fn imports_of_the_same_rows_side_by_side_store_each_row_once() {
    let scene = Scene::new().await;
    scene.records(5_000).await;
    // In opposite orders, so that each comes to wait for what the other has written.
    let forth: Vec<_> = (0..400).map(|i| row(&scene, i, &format!("r{i}"))).collect();
    let back: Vec<_> = forth.iter().rev().cloned().collect();
    let (first, second) = tokio::join!(import(&scene, chunk(forth)), import(&scene, chunk(back)));
    let created = |results: &[pb::ImportRowResult]| {
        outcomes(results)
            .into_iter()
            .filter(|outcome| *outcome == Created)
            .count()
    };
    assert_eq!(created(&first) + created(&second), 400);
    for (one, other) in first.iter().zip(second.iter().rev()) {
        assert_eq!(one.time_entry_id, other.time_entry_id);
    }
}

#[tokio::test]
async fn a_chunk_that_is_none_ends_the_stream() {
    let scene = Scene::new().await;
    let too_many = vec![row(&scene, 1, "a"); 1_001];
    let endless = pb::ImportTimeEntriesRequest {
        max_duration_minutes: Some(44_641),
        ..chunk(vec![row(&scene, 1, "a")])
    };
    let unheard_of = pb::ImportTimeEntriesRequest {
        overlap_policy: 9,
        ..chunk(vec![row(&scene, 1, "a")])
    };
    for (bad, field) in [
        (chunk(vec![]), "rows"),
        (chunk(too_many), "rows"),
        (endless, "max_duration_minutes"),
        (unheard_of, "overlap_policy"),
    ] {
        assert_eq!(invalid_fields(send(&scene.firm, vec![bad]).await), [field]);
    }
}

#[tokio::test]
async fn what_was_answered_before_a_bad_chunk_stays_stored() {
    let scene = Scene::new().await;
    let chunks = vec![
        chunk(vec![row(&scene, 1, "a")]),
        chunk(vec![]),
        chunk(vec![row(&scene, 2, "b")]),
    ];
    assert!(send(&scene.firm, chunks).await.is_err());
    assert_eq!(
        list(&scene.firm, pb::ListTimeEntriesRequest::default())
            .await
            .len(),
        1
    );
}

#[tokio::test]
async fn an_open_stream_ends_when_the_firm_is_suspended() {
    let scene = Scene::new().await;
    let (mut chunks, stream) = mpsc::channel(1);
    let mut answers = scene
        .firm
        .time_entries()
        .import_time_entries(stream)
        .await
        .expect("open")
        .into_inner();
    chunks
        .send(chunk(vec![row(&scene, 1, "a")]))
        .await
        .expect("sent");
    answers
        .message()
        .await
        .expect("no error")
        .expect("an answer");
    let request = tenants::SuspendTenantRequest {
        tenant_id: scene.firm.id.to_string(),
        reason: "unpaid".to_owned(),
        ..Default::default()
    };
    Caller::operator()
        .tenants()
        .suspend_tenant(request)
        .await
        .expect("suspended");
    let ended = tokio::time::timeout(Duration::from_secs(5), answers.message())
        .await
        .expect("within 5 s");
    assert_refused(ended, Code::PermissionDenied, "TENANT_NOT_ACTIVE");
}
