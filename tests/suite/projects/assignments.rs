//! Assignments once they are made: listed, and removed.

use harness::Firm;
use proto::projects::v1 as pb;
use tonic::Code;

use super::{Ear, assert_refused, invalid_fields, new_id};

fn unassign(id: &str) -> pb::UnassignConsultantRequest {
    pb::UnassignConsultantRequest {
        assignment_id: id.to_owned(),
        ..Default::default()
    }
}

fn list(project_id: &str, consultant_id: &str) -> pb::ListAssignmentsRequest {
    pb::ListAssignmentsRequest {
        project_id: project_id.to_owned(),
        consultant_id: consultant_id.to_owned(),
        ..Default::default()
    }
}

async fn listed(firm: &Firm, project_id: &str, consultant_id: &str) -> Vec<pb::Assignment> {
    let answer = firm
        .projects()
        .list_assignments(list(project_id, consultant_id))
        .await;
    answer.expect("a page").into_inner().assignments
}

/// A project, a consultant, and the one's assignment to the other.
async fn staffed(firm: &Firm) -> pb::Assignment {
    let (project, kim) = tokio::join!(firm.creates_project("Apollo"), firm.hires("Kim"));
    firm.assigns(&project.id, &kim.id).await
}

#[tokio::test]
async fn assignments_are_listed_by_project_by_consultant_and_by_both() {
    let firm = Firm::new("Acme").await;
    let (apollo, gemini) = (
        firm.creates_project("Apollo").await,
        firm.creates_project("Gemini").await,
    );
    let (kim, lee) = (firm.hires("Kim").await, firm.hires("Lee").await);
    let kim_on_apollo = firm.assigns(&apollo.id, &kim.id).await;
    let lee_on_apollo = firm.assigns(&apollo.id, &lee.id).await;
    let kim_on_gemini = firm.assigns(&gemini.id, &kim.id).await;
    assert_eq!(
        listed(&firm, &apollo.id, "").await,
        [kim_on_apollo.clone(), lee_on_apollo.clone()]
    );
    assert_eq!(
        listed(&firm, "", &kim.id).await,
        [kim_on_apollo, kim_on_gemini]
    );
    assert_eq!(listed(&firm, &apollo.id, &lee.id).await, [lee_on_apollo]);
    assert!(listed(&firm, &gemini.id, &lee.id).await.is_empty());
}

#[tokio::test]
async fn the_assignments_of_unknown_projects_and_consultants_are_none() {
    let firm = Firm::new("Acme").await;
    staffed(&firm).await;
    assert!(listed(&firm, &new_id(), "").await.is_empty());
    assert!(listed(&firm, "", &new_id()).await.is_empty());
}

#[tokio::test]
async fn a_list_of_all_assignments_is_refused() {
    let firm = Firm::new("Acme").await;
    let answer = firm.projects().list_assignments(list("", "")).await;
    assert_eq!(invalid_fields(answer), ["project_id"]);
}

#[tokio::test]
async fn a_page_of_assignments_is_followed_by_the_rest() {
    let firm = Firm::new("Acme").await;
    let project = firm.creates_project("Apollo").await;
    let mut expected = Vec::new();
    for name in ["Kim", "Lee", "Sam"] {
        expected.push(firm.assigns(&project.id, &firm.hires(name).await.id).await);
    }
    let request = pb::ListAssignmentsRequest {
        page_size: 2,
        ..list(&project.id, "")
    };
    let first = firm
        .projects()
        .list_assignments(request.clone())
        .await
        .expect("a page")
        .into_inner();
    let rest = pb::ListAssignmentsRequest {
        page_token: first.next_page_token,
        ..request
    };
    let second = firm
        .projects()
        .list_assignments(rest)
        .await
        .expect("a page")
        .into_inner();
    assert_eq!([first.assignments, second.assignments].concat(), expected);
    assert_eq!(second.next_page_token, "");
}

#[tokio::test]
async fn the_role_consultant_lists_assignments_and_removes_none() {
    let firm = Firm::new("Acme").await;
    let pb::Assignment { id, project_id, .. } = staffed(&firm).await;
    let caller = firm.user("kim", &["consultant"]);
    let answer = caller
        .projects()
        .list_assignments(list(&project_id, ""))
        .await;
    assert_eq!(answer.expect("a page").into_inner().assignments.len(), 1);
    let answer = caller.projects().unassign_consultant(unassign(&id)).await;
    assert_refused(answer, Code::PermissionDenied, "PERMISSION_DENIED");
}

#[tokio::test]
async fn a_removed_assignment_leaves_its_days_free() {
    let firm = Firm::new("Acme").await;
    let assignment = staffed(&firm).await;
    firm.projects()
        .unassign_consultant(unassign(&assignment.id))
        .await
        .expect("removed");
    assert!(listed(&firm, &assignment.project_id, "").await.is_empty());
    firm.assigns(&assignment.project_id, &assignment.consultant_id)
        .await;
}

#[tokio::test]
async fn the_removal_of_an_assignment_is_told_as_its_last_version() {
    let firm = Firm::new("Acme").await;
    let mut ear = Ear::of(&firm).await;
    let assignment = staffed(&firm).await;
    firm.projects()
        .unassign_consultant(unassign(&assignment.id))
        .await
        .expect("removed");
    ear.hears::<pb::ConsultantAssigned>(&assignment.id).await;
    let (version, event) = ear.hears::<pb::ConsultantUnassigned>(&assignment.id).await;
    let expected = pb::ConsultantUnassigned {
        assignment_id: assignment.id,
        project_id: assignment.project_id,
        consultant_id: assignment.consultant_id,
    };
    assert_eq!((version, event), (2, expected));
}

#[tokio::test]
async fn a_repeated_removal_succeeds_with_its_request_id_alone() {
    let firm = Firm::new("Acme").await;
    let assignment = staffed(&firm).await;
    let request = pb::UnassignConsultantRequest {
        request_id: new_id(),
        ..unassign(&assignment.id)
    };
    firm.projects()
        .unassign_consultant(request.clone())
        .await
        .expect("removed");
    firm.projects()
        .unassign_consultant(request)
        .await
        .expect("the first answer");
    let answer = firm
        .projects()
        .unassign_consultant(unassign(&assignment.id))
        .await;
    assert_refused(answer, Code::NotFound, "NOT_FOUND");
}

#[tokio::test]
async fn an_unknown_assignment_is_not_removed() {
    let firm = Firm::new("Acme").await;
    let answer = firm
        .projects()
        .unassign_consultant(unassign(&new_id()))
        .await;
    assert_refused(answer, Code::NotFound, "NOT_FOUND");
}

#[tokio::test]
async fn an_assignment_is_not_removed_with_a_stale_etag() {
    let firm = Firm::new("Acme").await;
    let assignment = staffed(&firm).await;
    let request = pb::UnassignConsultantRequest {
        etag: "0".to_owned(),
        ..unassign(&assignment.id)
    };
    let answer = firm.projects().unassign_consultant(request).await;
    assert_refused(answer, Code::Aborted, "ETAG_STALE");
}

#[tokio::test]
async fn an_assignment_to_remove_must_be_named() {
    let firm = Firm::new("Acme").await;
    let answer = firm.projects().unassign_consultant(unassign("")).await;
    assert_eq!(invalid_fields(answer), ["assignment_id"]);
}

#[tokio::test]
async fn the_assignments_of_an_archived_project_stay() {
    let firm = Firm::new("Acme").await;
    let assignment = staffed(&firm).await;
    let request = pb::ArchiveProjectRequest {
        project_id: assignment.project_id.clone(),
        ..Default::default()
    };
    firm.projects()
        .archive_project(request)
        .await
        .expect("archived");
    let answer = firm
        .projects()
        .unassign_consultant(unassign(&assignment.id))
        .await;
    assert_refused(answer, Code::FailedPrecondition, "PROJECT_ARCHIVED");
    assert_eq!(
        listed(&firm, &assignment.project_id, "").await,
        [assignment]
    );
}
