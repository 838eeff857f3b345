//! The role `consultant`: the own time, and nothing that would tell of anybody else's.

use harness::Caller;
use proto::time_entries::v1 as pb;
use tonic::Code;

use super::import::{chunk, row, send};
use super::{Scene, assert_missing, assert_refused, create, delete, get, list, sums, update};

/// Kim of the scene, and Lee, who is not asked.
struct Team {
    scene: Scene,
    kim: Caller,
    lee: String,
}

impl Team {
    async fn new() -> Self {
        let scene = Scene::new().await;
        let consultant = scene.firm.hires_subject("Kim", "auth0|kim").await.id;
        let lee = scene.firm.hires_subject("Lee", "auth0|lee").await.id;
        let kim = scene.firm.user("auth0|kim", &["consultant"]);
        Self {
            scene: Scene {
                consultant,
                ..scene
            },
            kim,
            lee,
        }
    }

    async fn lee_records(&self, hour: i64) -> pb::TimeEntry {
        let entry = pb::TimeEntry {
            consultant_id: self.lee.clone(),
            ..self.scene.hour(hour)
        };
        create(&self.scene.firm, entry).await.expect("recorded")
    }
}

#[tokio::test]
async fn a_consultant_records_changes_and_removes_the_own_time() {
    let team = Team::new().await;
    let entry = create(&team.kim, team.scene.hour(9))
        .await
        .expect("recorded");
    let wished = pb::TimeEntry {
        note: "done".to_owned(),
        ..entry.clone()
    };
    assert_eq!(
        update(&team.kim, wished, &["note"])
            .await
            .expect("updated")
            .note,
        "done"
    );
    assert_eq!(get(&team.kim, &entry.id).await.expect("found").note, "done");
    delete(&team.kim, &entry.id).await.expect("removed");
}

#[tokio::test]
async fn a_consultant_cannot_record_time_of_somebody_else() {
    let team = Team::new().await;
    let entry = pb::TimeEntry {
        consultant_id: team.lee.clone(),
        ..team.scene.hour(9)
    };
    assert_missing(create(&team.kim, entry).await, "consultant");
}

#[tokio::test]
async fn somebody_elses_entry_does_not_exist_for_a_consultant() {
    let team = Team::new().await;
    let theirs = team.lee_records(9).await;
    assert_missing(get(&team.kim, &theirs.id).await, "time_entry");
    let wished = pb::TimeEntry {
        note: "mine now".to_owned(),
        ..theirs.clone()
    };
    assert_missing(update(&team.kim, wished, &["note"]).await, "time_entry");
    assert_missing(delete(&team.kim, &theirs.id).await, "time_entry");
    assert_eq!(
        get(&team.scene.firm, &theirs.id)
            .await
            .expect("still there"),
        theirs
    );
}

#[tokio::test]
async fn lists_and_sums_of_a_consultant_hold_only_the_own_time() {
    let team = Team::new().await;
    let (own, theirs) = (team.scene.records(9).await, team.lee_records(10).await);
    let of = |consultant_id: &str, project_id: &str| pb::ListTimeEntriesRequest {
        consultant_id: consultant_id.to_owned(),
        project_id: project_id.to_owned(),
        ..Default::default()
    };
    for request in [
        of("", ""),
        of("", &team.scene.project),
        of(&team.scene.consultant, ""),
    ] {
        assert_eq!(
            list(&team.kim, request).await,
            std::slice::from_ref(&own.id)
        );
    }
    assert_eq!(
        list(&team.kim, of(&team.lee, "")).await,
        Vec::<String>::new()
    );
    assert_eq!(list(&team.scene.firm, of(&team.lee, "")).await, [theirs.id]);

    let all = pb::SummarizeTimeEntriesRequest::default();
    let worked: Vec<i64> = sums(&team.kim, all.clone())
        .await
        .iter()
        .map(|row| row.worked_minutes)
        .collect();
    assert_eq!(worked, [60]);
    let of_lee = pb::SummarizeTimeEntriesRequest {
        consultant_id: team.lee.clone(),
        ..all
    };
    assert_eq!(sums(&team.kim, of_lee).await, vec![]);
}

#[tokio::test]
async fn a_caller_who_is_no_consultant_of_the_firm_sees_no_time() {
    let team = Team::new().await;
    let entry = team.scene.records(9).await;
    let stranger = team.scene.firm.user("auth0|stranger", &["consultant"]);
    assert_missing(get(&stranger, &entry.id).await, "time_entry");
    assert_missing(create(&stranger, team.scene.hour(10)).await, "consultant");
    assert_eq!(
        list(&stranger, pb::ListTimeEntriesRequest::default()).await,
        Vec::<String>::new()
    );
    assert_eq!(
        sums(&stranger, pb::SummarizeTimeEntriesRequest::default()).await,
        vec![]
    );
}

#[tokio::test]
async fn a_consultant_who_manages_too_is_not_restricted() {
    let team = Team::new().await;
    let theirs = team.lee_records(9).await;
    let manager = team
        .scene
        .firm
        .user("auth0|kim", &["consultant", "manager"]);
    assert_eq!(get(&manager, &theirs.id).await.expect("found"), theirs);
}

#[tokio::test]
async fn a_consultant_cannot_import_and_a_viewer_cannot_record() {
    let team = Team::new().await;
    let refused = send(&team.kim, vec![chunk(vec![row(&team.scene, 9, "a")])]).await;
    assert_refused(refused, Code::PermissionDenied, "PERMISSION_DENIED");
    let viewer = team.scene.firm.user("viewer", &["viewer"]);
    assert_refused(
        create(&viewer, team.scene.hour(9)).await,
        Code::PermissionDenied,
        "PERMISSION_DENIED",
    );
}
