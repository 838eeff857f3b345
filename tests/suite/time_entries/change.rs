//! Changing entries that were recorded.

use harness::Firm;
use proto::projects::v1 as projects;
use proto::time_entries::v1 as pb;
use tonic::Code;

use super::{
    Ear, Scene, assert_missing, assert_refused, create, get, invalid_fields, later, mask, new_id,
    update,
};

/// A project whose work is not billed.
async fn internal_project(firm: &Firm) -> String {
    let client = firm.wins_client("the firm itself").await;
    // Never billable: a change would reach this service only by its event, some time later.
    let project = projects::Project {
        client_id: client.id,
        code: client.code,
        display_name: "Internal".to_owned(),
        billable: false,
        ..Default::default()
    };
    let request = projects::CreateProjectRequest {
        project: Some(project),
        ..Default::default()
    };
    let created = firm
        .projects()
        .create_project(request)
        .await
        .expect("created")
        .into_inner();
    created.project.expect("the project").id
}

#[tokio::test]
async fn an_update_changes_the_named_fields_and_what_follows_and_is_told() {
    let scene = Scene::new().await;
    let mut ear = Ear::of(&scene.firm).await;
    let entry = scene.records(9).await;
    ear.hears::<pb::TimeEntryCreated>().await;
    let wished = pb::TimeEntry {
        ended_at: later(entry.ended_at, 30),
        note: "not named, so not taken".to_owned(),
        ..entry.clone()
    };
    let updated = update(&scene.firm, wished, &["ended_at"])
        .await
        .expect("updated");
    let expected = pb::TimeEntry {
        ended_at: later(entry.ended_at, 30),
        worked_minutes: 90,
        etag: "2".to_owned(),
        update_time: updated.update_time,
        ..entry.clone()
    };
    assert_eq!(updated, expected);
    assert_eq!(get(&scene.firm, &entry.id).await.expect("found"), expected);
    let (aggregate, version, event) = ear.hears::<pb::TimeEntryUpdated>().await;
    assert_eq!(
        (aggregate, version, event.worked_minutes),
        (entry.id, 2, 90)
    );
    assert_eq!(event.changed_fields, ["ended_at", "worked_minutes"]);
}

#[tokio::test]
async fn an_update_that_changes_nothing_leaves_the_entry_as_it_is() {
    let scene = Scene::new().await;
    let entry = scene.records(9).await;
    assert_eq!(
        update(&scene.firm, entry.clone(), &["*"])
            .await
            .expect("unchanged"),
        entry
    );
}

#[tokio::test]
async fn an_update_with_an_etag_of_before_a_change_is_refused() {
    let scene = Scene::new().await;
    let entry = scene.records(9).await;
    let wished = pb::TimeEntry {
        note: "first".to_owned(),
        ..entry
    };
    update(&scene.firm, wished.clone(), &["note"])
        .await
        .expect("updated");
    assert_refused(
        update(&scene.firm, wished, &["note"]).await,
        Code::Aborted,
        "ETAG_STALE",
    );
}

#[tokio::test]
async fn a_repeated_update_gets_the_first_answer() {
    let scene = Scene::new().await;
    let entry = scene.records(9).await;
    let request = pb::UpdateTimeEntryRequest {
        time_entry: Some(pb::TimeEntry {
            note: "reviewed".to_owned(),
            ..entry
        }),
        update_mask: Some(mask(&["note"])),
        request_id: new_id(),
    };
    let first = scene
        .firm
        .time_entries()
        .update_time_entry(request.clone())
        .await
        .expect("updated")
        .into_inner();
    let again = scene
        .firm
        .time_entries()
        .update_time_entry(request)
        .await
        .expect("repeated")
        .into_inner();
    assert_eq!(again, first);
}

#[tokio::test]
async fn an_entry_moves_to_a_project_that_was_created_a_moment_ago() {
    let scene = Scene::new().await;
    let entry = scene.records(9).await;
    let project_id = scene.firm.creates_project("Gemini").await.id;
    let wished = pb::TimeEntry {
        project_id: project_id.clone(),
        ..entry
    };
    assert_eq!(
        update(&scene.firm, wished, &["project_id"])
            .await
            .expect("moved")
            .project_id,
        project_id
    );
}

#[tokio::test]
async fn an_unknown_entry_and_an_unknown_project_are_not_found() {
    let scene = Scene::new().await;
    let entry = scene.records(9).await;
    let unknown = pb::TimeEntry {
        id: new_id(),
        etag: String::new(),
        note: "x".to_owned(),
        ..entry.clone()
    };
    assert_missing(update(&scene.firm, unknown, &["note"]).await, "time_entry");
    let stray = pb::TimeEntry {
        project_id: new_id(),
        ..entry
    };
    assert_missing(update(&scene.firm, stray, &["project_id"]).await, "project");
}

#[tokio::test]
async fn an_entry_cannot_be_moved_onto_another_one() {
    let scene = Scene::new().await;
    let (entry, next) = (scene.records(9).await, scene.records(10).await);
    let wished = pb::TimeEntry {
        ended_at: later(next.started_at, 1),
        ..entry
    };
    let refused = update(&scene.firm, wished, &["ended_at"]).await;
    assert_refused(refused, Code::FailedPrecondition, "TIME_ENTRY_OVERLAPS");
}

#[tokio::test]
async fn an_external_id_can_be_taken_back_and_used_by_another_entry() {
    let scene = Scene::new().await;
    let with_key = pb::TimeEntry {
        external_id: "jira-1".to_owned(),
        ..scene.hour(9)
    };
    let first = create(&scene.firm, with_key).await.expect("recorded");
    let second = pb::TimeEntry {
        external_id: "jira-1".to_owned(),
        ..scene.records(10).await
    };
    let taken = update(&scene.firm, second.clone(), &["external_id"]).await;
    assert_refused(taken, Code::AlreadyExists, "EXTERNAL_ID_TAKEN");
    let cleared = pb::TimeEntry {
        external_id: String::new(),
        ..first
    };
    update(&scene.firm, cleared, &["external_id"])
        .await
        .expect("cleared");
    assert_eq!(
        update(&scene.firm, second, &["external_id"])
            .await
            .expect("taken over")
            .external_id,
        "jira-1"
    );
}

#[tokio::test]
async fn billing_that_is_taken_back_is_as_the_project_says() {
    let scene = Scene::new().await;
    let internal = internal_project(&scene.firm).await;
    let billed = pb::TimeEntry {
        project_id: internal,
        billable: Some(true),
        ..scene.hour(9)
    };
    let entry = create(&scene.firm, billed).await.expect("recorded");
    assert_eq!(entry.billable, Some(true));
    let unsaid = pb::TimeEntry {
        billable: None,
        ..entry
    };
    assert_eq!(
        update(&scene.firm, unsaid, &["billable"])
            .await
            .expect("updated")
            .billable,
        Some(false)
    );
}

#[tokio::test]
async fn fields_that_an_update_may_not_name_are_refused() {
    let scene = Scene::new().await;
    let entry = scene.records(9).await;
    for path in [
        "consultant_id",
        "worked_minutes",
        "overlap_kept",
        "tenant_id",
    ] {
        assert_eq!(
            invalid_fields(update(&scene.firm, entry.clone(), &[path]).await),
            ["update_mask"],
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_named_field_that_breaks_its_rule_is_refused() {
    let scene = Scene::new().await;
    let entry = scene.records(9).await;
    let long = pb::TimeEntry {
        break_minutes: 61,
        ..entry.clone()
    };
    assert_eq!(
        invalid_fields(update(&scene.firm, long, &["break_minutes"]).await),
        ["time_entry.break_minutes"]
    );
    let none = pb::TimeEntry {
        time_zone: String::new(),
        ..entry
    };
    assert_eq!(
        invalid_fields(update(&scene.firm, none, &["time_zone"]).await),
        ["time_entry.time_zone"]
    );
}
