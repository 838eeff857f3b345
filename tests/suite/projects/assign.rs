//! Assigning consultants to projects: who can be assigned, and that nobody is on a project twice on one day.

use futures::future::join_all;
use harness::{Firm, eventually};
use proto::consultants::v1::DeactivateConsultantRequest;
use proto::projects::v1 as pb;
use tonic::Code;

use super::{Ear, assert_refused, invalid_fields, new_id, reason};

fn assign(
    project_id: &str,
    consultant_id: &str,
    start: &str,
    end: &str,
) -> pb::AssignConsultantRequest {
    let assignment = pb::Assignment {
        project_id: project_id.to_owned(),
        consultant_id: consultant_id.to_owned(),
        role: "engineer".to_owned(),
        allocation_percent: 50,
        start_date: start.to_owned(),
        end_date: end.to_owned(),
        ..Default::default()
    };
    pb::AssignConsultantRequest {
        assignment: Some(assignment),
        ..Default::default()
    }
}

async fn assigned(firm: &Firm, request: pb::AssignConsultantRequest) -> pb::Assignment {
    let answer = firm.projects().assign_consultant(request).await;
    answer
        .expect("assigned")
        .into_inner()
        .assignment
        .expect("the assignment")
}

async fn deactivate(firm: &Firm, consultant_id: &str) {
    let request = DeactivateConsultantRequest {
        consultant_id: consultant_id.to_owned(),
        ..Default::default()
    };
    firm.consultants()
        .deactivate_consultant(request)
        .await
        .expect("deactivated");
}

#[tokio::test]
async fn an_assignment_is_answered_as_it_was_asked_for() {
    let firm = Firm::new("Acme").await;
    let (project, kim) = (
        firm.creates_project("Apollo").await,
        firm.hires("Kim").await,
    );
    let request = assign(&project.id, &kim.id, "2026-03-02", "");
    let asked = request.assignment.clone().expect("the assignment");
    let answered = assigned(&firm, request).await;
    let expected = pb::Assignment {
        id: answered.id.clone(),
        etag: answered.etag.clone(),
        create_time: answered.create_time,
        update_time: answered.update_time,
        ..asked
    };
    assert_eq!(answered, expected);
    assert!(!answered.id.is_empty() && !answered.etag.is_empty() && answered.create_time.is_some());
}

#[tokio::test]
async fn an_assignment_is_told_with_its_days() {
    let firm = Firm::new("Acme").await;
    let mut ear = Ear::of(&firm).await;
    let (project, kim) = (
        firm.creates_project("Apollo").await,
        firm.hires("Kim").await,
    );
    let assignment = assigned(
        &firm,
        assign(&project.id, &kim.id, "2026-03-02", "2026-03-31"),
    )
    .await;
    let (version, event) = ear.hears::<pb::ConsultantAssigned>(&assignment.id).await;
    let expected = pb::ConsultantAssigned {
        assignment_id: assignment.id,
        project_id: project.id,
        consultant_id: kim.id,
        role: "engineer".to_owned(),
        allocation_percent: 50,
        start_date: "2026-03-02".to_owned(),
        end_date: "2026-03-31".to_owned(),
    };
    assert_eq!((version, event), (1, expected));
}

#[tokio::test]
async fn a_consultant_can_be_assigned_at_once_after_being_hired() {
    let firm = Firm::new("Acme").await;
    let project = firm.creates_project("Apollo").await;
    for _ in 0..10 {
        let consultant = firm.hires("Kim").await;
        assigned(&firm, assign(&project.id, &consultant.id, "2026-03-02", "")).await;
    }
}

#[tokio::test]
async fn a_repeated_assignment_returns_the_first() {
    let firm = Firm::new("Acme").await;
    let (project, kim) = (
        firm.creates_project("Apollo").await,
        firm.hires("Kim").await,
    );
    let request = pb::AssignConsultantRequest {
        request_id: new_id(),
        ..assign(&project.id, &kim.id, "2026-03-02", "")
    };
    let first = assigned(&firm, request.clone()).await;
    assert_eq!(assigned(&firm, request).await, first);
}

#[tokio::test]
async fn a_consultant_is_not_assigned_to_a_project_twice_on_one_day() {
    let firm = Firm::new("Acme").await;
    let (project, kim) = (
        firm.creates_project("Apollo").await,
        firm.hires("Kim").await,
    );
    assigned(
        &firm,
        assign(&project.id, &kim.id, "2026-03-02", "2026-03-31"),
    )
    .await;
    for (start, end) in [
        ("2026-03-31", "2026-04-30"),
        ("2026-01-01", ""),
        ("2026-03-10", "2026-03-10"),
    ] {
        let answer = firm
            .projects()
            .assign_consultant(assign(&project.id, &kim.id, start, end))
            .await;
        assert_refused(answer, Code::AlreadyExists, "ALREADY_ASSIGNED");
    }
}

#[tokio::test]
async fn a_consultant_is_assigned_to_a_project_many_times_on_other_days() {
    let firm = Firm::new("Acme").await;
    let (project, kim) = (
        firm.creates_project("Apollo").await,
        firm.hires("Kim").await,
    );
    for (start, end) in [
        ("2026-03-02", "2026-03-31"),
        ("2026-04-01", ""),
        ("2026-03-01", "2026-03-01"),
    ] {
        assigned(&firm, assign(&project.id, &kim.id, start, end)).await;
    }
}

#[tokio::test]
async fn other_consultants_and_other_projects_share_the_days() {
    let firm = Firm::new("Acme").await;
    let (apollo, gemini) = (
        firm.creates_project("Apollo").await,
        firm.creates_project("Gemini").await,
    );
    let (kim, lee) = (firm.hires("Kim").await, firm.hires("Lee").await);
    for (project, consultant) in [(&apollo, &kim), (&apollo, &lee), (&gemini, &kim)] {
        assigned(&firm, assign(&project.id, &consultant.id, "2026-03-02", "")).await;
    }
}

#[tokio::test]
async fn of_many_assignments_to_the_same_days_at_once_one_is_made() {
    let firm = Firm::new("Acme").await;
    let (project, kim) = (
        firm.creates_project("Apollo").await,
        firm.hires("Kim").await,
    );
    let answers = join_all((0..8).map(|_| async {
        let request = assign(&project.id, &kim.id, "2026-03-02", "2026-03-31");
        firm.projects().assign_consultant(request).await
    }))
    .await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 1);
    for answer in refused {
        assert_refused(answer, Code::AlreadyExists, "ALREADY_ASSIGNED");
    }
}

#[tokio::test]
async fn an_inactive_consultant_is_not_assigned() {
    let firm = Firm::new("Acme").await;
    let (project, kim) = (
        firm.creates_project("Apollo").await,
        firm.hires("Kim").await,
    );
    deactivate(&firm, &kim.id).await;
    // The service may have heard of the hiring and not yet of the end.
    let refused = eventually("the consultant is known as inactive", async || {
        let request = assign(&project.id, &kim.id, "2026-03-02", "");
        let status = firm.projects().assign_consultant(request).await.err()?;
        (reason(&status) == "CONSULTANT_INACTIVE").then_some(status)
    })
    .await;
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn nobody_is_assigned_to_an_archived_project() {
    let firm = Firm::new("Acme").await;
    let (project, kim) = (
        firm.creates_project("Apollo").await,
        firm.hires("Kim").await,
    );
    let request = pb::ArchiveProjectRequest {
        project_id: project.id.clone(),
        ..Default::default()
    };
    firm.projects()
        .archive_project(request)
        .await
        .expect("archived");
    let answer = firm
        .projects()
        .assign_consultant(assign(&project.id, &kim.id, "2026-03-02", ""))
        .await;
    assert_refused(answer, Code::FailedPrecondition, "PROJECT_ARCHIVED");
}

#[tokio::test]
async fn an_unknown_consultant_is_not_assigned() {
    let firm = Firm::new("Acme").await;
    let project = firm.creates_project("Apollo").await;
    let answer = firm
        .projects()
        .assign_consultant(assign(&project.id, &new_id(), "2026-03-02", ""))
        .await;
    assert_refused(answer, Code::NotFound, "NOT_FOUND");
}

#[tokio::test]
async fn nobody_is_assigned_to_an_unknown_project() {
    let firm = Firm::new("Acme").await;
    let kim = firm.hires("Kim").await;
    let answer = firm
        .projects()
        .assign_consultant(assign(&new_id(), &kim.id, "2026-03-02", ""))
        .await;
    assert_refused(answer, Code::NotFound, "NOT_FOUND");
}

#[tokio::test]
async fn every_wrong_field_of_an_assignment_is_named() {
    let firm = Firm::new("Acme").await;
    let mut request = assign("apollo", "", "", "2026-02-30");
    request
        .assignment
        .as_mut()
        .expect("the assignment")
        .allocation_percent = 101;
    let answer = firm.projects().assign_consultant(request).await;
    let expected = [
        "assignment.project_id",
        "assignment.consultant_id",
        "assignment.allocation_percent",
        "assignment.start_date",
        "assignment.end_date",
    ];
    assert_eq!(invalid_fields(answer), expected);
}

#[tokio::test]
async fn an_assignment_does_not_end_before_it_starts() {
    let firm = Firm::new("Acme").await;
    let request = assign(&new_id(), &new_id(), "2026-03-02", "2026-03-01");
    let answer = firm.projects().assign_consultant(request).await;
    assert_eq!(invalid_fields(answer), ["assignment.end_date"]);
}

#[tokio::test]
async fn the_role_consultant_assigns_nobody() {
    let firm = Firm::new("Acme").await;
    let caller = firm.user("kim", &["consultant"]);
    let answer = caller
        .projects()
        .assign_consultant(assign(&new_id(), &new_id(), "2026-03-02", ""))
        .await;
    assert_refused(answer, Code::PermissionDenied, "PERMISSION_DENIED");
}
