//! What the service keeps of projects and consultants: their newest version, by events and by asking.

use harness::{Caller, eventually, world};
use proto::consultants::v1 as consultants;
use proto::projects::v1 as projects;
use proto::time_entries::v1 as pb;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tonic::Code;

use super::{Scene, assert_refused, create, delete, get, reason, update};

/// Name and version that the service keeps of a project. The API does not show them.
async fn kept_project(id: &str) -> Option<(String, i64)> {
    let mut admin = PgConnection::connect(&world().postgres_admin_url)
        .await
        .expect("the administrator connects");
    let sql = "select display_name, version from time_entries.project where id = $1::uuid";
    sqlx::query_as(sql)
        .bind(id)
        .fetch_optional(&mut admin)
        .await
        .expect("the reference is read")
}

async fn rename(scene: &Scene, display_name: &str) {
    let project = projects::Project {
        id: scene.project.clone(),
        display_name: display_name.to_owned(),
        ..Default::default()
    };
    let request = projects::UpdateProjectRequest {
        project: Some(project),
        ..Default::default()
    };
    scene
        .firm
        .projects()
        .update_project(request)
        .await
        .expect("renamed");
}

async fn archive(scene: &Scene) {
    let request = projects::ArchiveProjectRequest {
        project_id: scene.project.clone(),
        ..Default::default()
    };
    scene
        .firm
        .projects()
        .archive_project(request)
        .await
        .expect("archived");
}

async fn deactivate(scene: &Scene) {
    let request = consultants::DeactivateConsultantRequest {
        consultant_id: scene.consultant.clone(),
        ..Default::default()
    };
    scene
        .firm
        .consultants()
        .deactivate_consultant(request)
        .await
        .expect("deactivated");
}

/// Tries to record an hour, another one each time, until that is refused for `why`.
async fn is_refused(scene: &Scene, why: &str) {
    let mut hours = 100..;
    eventually("the end is heard", async || {
        let hour = hours.next()?;
        let status = create(&scene.firm, scene.hour(hour)).await.err()?;
        (reason(&status) == why).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_project_that_nobody_worked_on_is_known_by_events_at_the_newest_version() {
    let scene = Scene::new().await;
    for i in 2..=10 {
        rename(&scene, &format!("Apollo {i}")).await;
    }
    eventually("the newest version arrives", async || {
        (kept_project(&scene.project).await? == ("Apollo 10".to_owned(), 10)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_project_that_is_worked_on_at_once_ends_at_the_newest_version_too() {
    let scene = Scene::new().await;
    rename(&scene, "Apollo 2").await;
    scene.records(9).await;
    rename(&scene, "Apollo 3").await;
    eventually("the newest version arrives", async || {
        (kept_project(&scene.project).await? == ("Apollo 3".to_owned(), 3)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn under_a_project_that_is_archived_nothing_is_added_changed_or_removed() {
    let scene = Scene::new().await;
    let entry = scene.records(9).await;
    archive(&scene).await;
    is_refused(&scene, "PROJECT_ARCHIVED").await;
    let wished = pb::TimeEntry {
        note: "too late".to_owned(),
        ..entry.clone()
    };
    let refused = update(&scene.firm, wished, &["note"]).await;
    assert_refused(refused, Code::FailedPrecondition, "PROJECT_ARCHIVED");
    assert_refused(
        delete(&scene.firm, &entry.id).await,
        Code::FailedPrecondition,
        "PROJECT_ARCHIVED",
    );
    assert_eq!(get(&scene.firm, &entry.id).await.expect("found"), entry);
}

#[tokio::test]
async fn a_consultant_who_left_gets_no_new_time_but_the_old_can_be_corrected() {
    let scene = Scene::new().await;
    let entry = scene.records(9).await;
    deactivate(&scene).await;
    is_refused(&scene, "CONSULTANT_INACTIVE").await;
    let wished = pb::TimeEntry {
        note: "corrected".to_owned(),
        ..entry
    };
    assert_eq!(
        update(&scene.firm, wished, &["note"])
            .await
            .expect("updated")
            .note,
        "corrected"
    );
}

#[tokio::test]
async fn a_subject_that_goes_to_another_consultant_takes_the_view_along() {
    let scene = Scene::new().await;
    let entry = scene.records(9).await;
    let caller: Caller = scene.firm.user("auth0|kim", &["consultant"]);
    assert!(get(&caller, &entry.id).await.is_err());
    let consultant = consultants::Consultant {
        id: scene.consultant.clone(),
        subject: "auth0|kim".to_owned(),
        ..Default::default()
    };
    let request = consultants::UpdateConsultantRequest {
        consultant: Some(consultant),
        ..Default::default()
    };
    scene
        .firm
        .consultants()
        .update_consultant(request)
        .await
        .expect("updated");
    let found = eventually("the subject is heard", async || {
        get(&caller, &entry.id).await.ok()
    })
    .await;
    assert_eq!(found, entry);
}
