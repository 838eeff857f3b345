//! Recording time, reading it back, and removing it.

use proto::time_entries::v1 as pb;
use tonic::Code;

use super::{
    Ear, Scene, assert_missing, assert_refused, create, create_as, delete, get, invalid_fields,
    later, new_id,
};

#[tokio::test]
async fn a_recorded_entry_reads_back_as_it_was_asked_for_with_what_follows_from_it() {
    let scene = Scene::new().await;
    let asked = pb::TimeEntry {
        break_minutes: 15,
        note: "  Kick-off\nwith the client ".to_owned(),
        external_id: "jira-1".to_owned(),
        // An hour before midnight UTC is the next day in Berlin.
        ..scene.hour(23)
    };
    let answered = create(&scene.firm, asked.clone()).await.expect("recorded");
    let expected = pb::TimeEntry {
        id: answered.id.clone(),
        etag: "1".to_owned(),
        worked_minutes: 45,
        worked_on: "2026-03-03".to_owned(),
        billable: Some(true),
        note: "Kick-off\nwith the client".to_owned(),
        create_time: answered.create_time,
        update_time: answered.create_time,
        ..asked
    };
    assert_eq!(answered, expected);
    assert_eq!(
        get(&scene.firm, &answered.id).await.expect("found"),
        expected
    );
}

#[tokio::test]
async fn a_recorded_entry_is_told_without_its_note() {
    let scene = Scene::new().await;
    let mut ear = Ear::of(&scene.firm).await;
    let entry = pb::TimeEntry {
        external_id: "jira-1".to_owned(),
        note: "secret".to_owned(),
        ..scene.hour(9)
    };
    let entry = create(&scene.firm, entry).await.expect("recorded");
    let expected = pb::TimeEntryCreated {
        time_entry_id: entry.id.clone(),
        project_id: scene.project,
        consultant_id: scene.consultant,
        worked_on: "2026-03-02".to_owned(),
        worked_minutes: 60,
        billable: true,
        external_id: "jira-1".to_owned(),
        overlap_kept: false,
    };
    assert_eq!(ear.hears().await, (entry.id, 1, expected));
}

#[tokio::test]
async fn a_repeated_request_id_returns_the_entry_that_the_first_call_made() {
    let scene = Scene::new().await;
    let id = new_id();
    let first = create_as(&scene.firm, scene.hour(9), &id)
        .await
        .expect("recorded");
    assert_eq!(
        create_as(&scene.firm, scene.hour(9), &id)
            .await
            .expect("repeated"),
        first
    );
    assert_refused(
        create_as(&scene.firm, scene.hour(10), &id).await,
        Code::FailedPrecondition,
        "REQUEST_ID_REUSED",
    );
}

#[tokio::test]
async fn twenty_concurrent_calls_with_one_request_id_record_one_entry() {
    let scene = Scene::new().await;
    scene.records(8).await;
    let id = new_id();
    let calls = (0..20).map(|_| create_as(&scene.firm, scene.hour(9), &id));
    let made = futures::future::join_all(calls).await;
    let ids: std::collections::HashSet<_> = made
        .into_iter()
        .map(|made| made.expect("the same answer").id)
        .collect();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn an_unknown_project_or_consultant_is_not_found() {
    let scene = Scene::new().await;
    let stray = pb::TimeEntry {
        project_id: new_id(),
        ..scene.hour(9)
    };
    assert_missing(create(&scene.firm, stray).await, "project");
    let stray = pb::TimeEntry {
        consultant_id: new_id(),
        ..scene.hour(9)
    };
    assert_missing(create(&scene.firm, stray).await, "consultant");
}

#[tokio::test]
async fn entries_of_a_consultant_may_touch_but_not_overlap() {
    let scene = Scene::new().await;
    scene.records(9).await;
    scene.records(10).await;
    let across = pb::TimeEntry {
        started_at: later(scene.hour(9).started_at, 30),
        ..scene.hour(9)
    };
    let across = pb::TimeEntry {
        ended_at: later(across.started_at, 1),
        ..across
    };
    assert_refused(
        create(&scene.firm, across).await,
        Code::FailedPrecondition,
        "TIME_ENTRY_OVERLAPS",
    );
}

#[tokio::test]
async fn two_consultants_work_at_the_same_time() {
    let scene = Scene::new().await;
    scene.records(9).await;
    let lee = scene.firm.hires("Lee").await;
    let beside = pb::TimeEntry {
        consultant_id: lee.id,
        ..scene.hour(9)
    };
    assert!(create(&scene.firm, beside).await.is_ok());
}

#[tokio::test]
async fn an_entry_without_duration_overlaps_nothing() {
    let scene = Scene::new().await;
    scene.records(9).await;
    let at = later(scene.hour(9).started_at, 30);
    let moment = pb::TimeEntry {
        started_at: at,
        ended_at: at,
        ..scene.hour(9)
    };
    assert_eq!(
        create(&scene.firm, moment)
            .await
            .expect("recorded")
            .worked_minutes,
        0
    );
}

#[tokio::test]
async fn of_twenty_concurrent_overlapping_entries_one_is_recorded() {
    let scene = Scene::new().await;
    let calls = (0..20).map(|i| {
        let started_at = later(scene.hour(9).started_at, i);
        create(
            &scene.firm,
            pb::TimeEntry {
                started_at,
                ..scene.hour(9)
            },
        )
    });
    let outcomes = futures::future::join_all(calls).await;
    assert_eq!(
        outcomes.iter().filter(|outcome| outcome.is_ok()).count(),
        1,
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn an_external_id_is_used_once_in_a_firm() {
    let (scene, other) = tokio::join!(Scene::new(), Scene::new());
    let with_key = |scene: &Scene, hour| pb::TimeEntry {
        external_id: "jira-1".to_owned(),
        ..scene.hour(hour)
    };
    create(&scene.firm, with_key(&scene, 9))
        .await
        .expect("recorded");
    assert_refused(
        create(&scene.firm, with_key(&scene, 10)).await,
        Code::AlreadyExists,
        "EXTERNAL_ID_TAKEN",
    );
    assert!(create(&other.firm, with_key(&other, 9)).await.is_ok());
}

#[tokio::test]
async fn an_entry_lasts_at_most_a_day() {
    let scene = Scene::new().await;
    let lasting = |minutes| pb::TimeEntry {
        ended_at: later(scene.hour(0).started_at, minutes),
        ..scene.hour(0)
    };
    assert_refused(
        create(&scene.firm, lasting(1_441)).await,
        Code::InvalidArgument,
        "TIME_ENTRY_TOO_LONG",
    );
    assert_eq!(
        create(&scene.firm, lasting(1_440))
            .await
            .expect("recorded")
            .worked_minutes,
        1_440
    );
}

#[tokio::test]
async fn every_bad_field_is_named_in_one_answer() {
    let scene = Scene::new().await;
    let bad = pb::TimeEntry {
        project_id: "apollo".to_owned(),
        consultant_id: String::new(),
        break_minutes: 61,
        note: "x".repeat(4_001),
        external_id: "x".repeat(129),
        ..scene.hour(9)
    };
    let named = invalid_fields(create(&scene.firm, bad).await);
    let expected = [
        "project_id",
        "consultant_id",
        "note",
        "external_id",
        "break_minutes",
    ];
    assert_eq!(named, expected.map(|field| format!("time_entry.{field}")));
}

#[tokio::test]
async fn a_zone_that_no_clock_keeps_and_an_end_before_the_start_are_named() {
    let scene = Scene::new().await;
    let nowhere = pb::TimeEntry {
        time_zone: "Mars/Olympus".to_owned(),
        ..scene.hour(9)
    };
    assert_eq!(
        invalid_fields(create(&scene.firm, nowhere).await),
        ["time_entry.time_zone"]
    );
    let backwards = pb::TimeEntry {
        ended_at: later(scene.hour(9).started_at, -1),
        ..scene.hour(9)
    };
    assert_eq!(
        invalid_fields(create(&scene.firm, backwards).await),
        ["time_entry.ended_at"]
    );
}

#[tokio::test]
async fn a_removed_entry_is_gone_and_its_last_state_told() {
    let scene = Scene::new().await;
    let mut ear = Ear::of(&scene.firm).await;
    let entry = scene.records(9).await;
    ear.hears::<pb::TimeEntryCreated>().await;
    delete(&scene.firm, &entry.id).await.expect("removed");
    assert_missing(get(&scene.firm, &entry.id).await, "time_entry");
    let expected = pb::TimeEntryDeleted {
        time_entry_id: entry.id.clone(),
        project_id: scene.project.clone(),
        consultant_id: scene.consultant.clone(),
        worked_on: "2026-03-02".to_owned(),
        worked_minutes: 60,
        billable: true,
    };
    assert_eq!(ear.hears().await, (entry.id.clone(), 2, expected));
    // Its time is free again.
    scene.records(9).await;
}

#[tokio::test]
async fn a_removal_is_repeated_by_its_request_id_and_else_finds_nothing() {
    let scene = Scene::new().await;
    let entry = scene.records(9).await;
    let request = pb::DeleteTimeEntryRequest {
        time_entry_id: entry.id.clone(),
        request_id: new_id(),
        ..Default::default()
    };
    for _ in 0..2 {
        scene
            .firm
            .time_entries()
            .delete_time_entry(request.clone())
            .await
            .expect("removed");
    }
    assert_missing(delete(&scene.firm, &entry.id).await, "time_entry");
    assert_missing(delete(&scene.firm, &new_id()).await, "time_entry");
}

#[tokio::test]
async fn a_removal_with_an_etag_of_before_a_change_is_refused() {
    let scene = Scene::new().await;
    let entry = scene.records(9).await;
    let request = pb::DeleteTimeEntryRequest {
        time_entry_id: entry.id,
        etag: "7".to_owned(),
        ..Default::default()
    };
    let refused = scene.firm.time_entries().delete_time_entry(request).await;
    assert_refused(refused, Code::Aborted, "ETAG_STALE");
}
