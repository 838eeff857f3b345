//! The end of a project: nothing of it can be changed, and nothing ends it twice.

use harness::Firm;
use proto::projects::v1 as pb;
use tonic::Code;

use super::{Ear, assert_refused, invalid_fields, mask, new_id};

fn archive(id: &str) -> pb::ArchiveProjectRequest {
    pb::ArchiveProjectRequest {
        project_id: id.to_owned(),
        ..Default::default()
    }
}

async fn archived(firm: &Firm, request: pb::ArchiveProjectRequest) -> pb::Project {
    let answer = firm.projects().archive_project(request).await;
    answer
        .expect("archived")
        .into_inner()
        .project
        .expect("the project")
}

#[tokio::test]
async fn an_archived_project_is_told_as_its_last_version() {
    let firm = Firm::new("Acme").await;
    let mut ear = Ear::of(&firm).await;
    let project = firm.creates_project("Apollo").await;
    let after = archived(&firm, archive(&project.id)).await;
    assert_eq!(after.state(), pb::ProjectState::Archived);
    ear.hears::<pb::ProjectCreated>(&project.id).await;
    let (version, event) = ear.hears::<pb::ProjectArchived>(&project.id).await;
    assert_eq!((version, event.state()), (2, pb::ProjectState::Archived));
}

#[tokio::test]
async fn an_archived_project_is_returned_unchanged_when_it_is_archived_again() {
    let firm = Firm::new("Acme").await;
    let project = firm.creates_project("Apollo").await;
    let first = archived(&firm, archive(&project.id)).await;
    assert_eq!(archived(&firm, archive(&project.id)).await, first);
}

#[tokio::test]
async fn a_repeated_archiving_returns_its_first_answer_although_its_etag_is_stale_by_then() {
    let firm = Firm::new("Acme").await;
    let project = firm.creates_project("Apollo").await;
    let request = pb::ArchiveProjectRequest {
        etag: project.etag,
        request_id: new_id(),
        ..archive(&project.id)
    };
    let first = archived(&firm, request.clone()).await;
    assert_eq!(archived(&firm, request).await, first);
}

#[tokio::test]
async fn a_project_is_not_archived_with_a_stale_etag() {
    let firm = Firm::new("Acme").await;
    let project = firm.creates_project("Apollo").await;
    let request = pb::ArchiveProjectRequest {
        etag: "0".to_owned(),
        ..archive(&project.id)
    };
    let answer = firm.projects().archive_project(request).await;
    assert_refused(answer, Code::Aborted, "ETAG_STALE");
}

#[tokio::test]
async fn an_unknown_project_is_not_archived() {
    let firm = Firm::new("Acme").await;
    let answer = firm.projects().archive_project(archive(&new_id())).await;
    assert_refused(answer, Code::NotFound, "NOT_FOUND");
}

#[tokio::test]
async fn a_project_to_archive_must_be_named() {
    let firm = Firm::new("Acme").await;
    let answer = firm.projects().archive_project(archive("")).await;
    assert_eq!(invalid_fields(answer), ["project_id"]);
}

#[tokio::test]
async fn an_archived_project_cannot_be_updated() {
    let firm = Firm::new("Acme").await;
    let project = firm.creates_project("Apollo").await;
    archived(&firm, archive(&project.id)).await;
    let wished = pb::Project {
        etag: String::new(),
        ..project
    };
    let request = pb::UpdateProjectRequest {
        project: Some(wished),
        update_mask: Some(mask(&["billable"])),
        ..Default::default()
    };
    let answer = firm.projects().update_project(request).await;
    assert_refused(answer, Code::FailedPrecondition, "PROJECT_ARCHIVED");
}

#[tokio::test]
async fn only_admins_and_managers_archive_projects() {
    let firm = Firm::new("Acme").await;
    let project = firm.creates_project("Apollo").await;
    for role in ["consultant", "viewer", "auditor"] {
        let caller = firm.user("kim", &[role]);
        let answer = caller
            .projects()
            .archive_project(archive(&project.id))
            .await;
        assert_refused(answer, Code::PermissionDenied, "PERMISSION_DENIED");
    }
    let manager = firm.user("lee", &["manager"]);
    manager
        .projects()
        .archive_project(archive(&project.id))
        .await
        .expect("archived");
}
