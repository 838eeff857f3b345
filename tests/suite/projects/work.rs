//! Projects: create, get, list, update.

use harness::Firm;
use proto::common::v1::Money;
use proto::projects::v1 as pb;
use tonic::Code;

use super::{Ear, assert_refused, invalid_fields, mask, new_code, new_id};

fn project(client_id: &str) -> pb::Project {
    pb::Project {
        client_id: client_id.to_owned(),
        code: new_code(),
        display_name: "Apollo".to_owned(),
        billable: true,
        budget_minutes: Some(60_000),
        budget: Some(Money {
            minor_units: 1_050_000,
            currency_code: "EUR".to_owned(),
        }),
        start_date: "2026-03-02".to_owned(),
        end_date: "2026-12-31".to_owned(),
        ..Default::default()
    }
}

fn create(project: &pb::Project) -> pb::CreateProjectRequest {
    pb::CreateProjectRequest {
        project: Some(project.clone()),
        ..Default::default()
    }
}

fn get(id: &str) -> pb::GetProjectRequest {
    pb::GetProjectRequest {
        project_id: id.to_owned(),
    }
}

fn update(project: pb::Project, paths: &[&str]) -> pb::UpdateProjectRequest {
    pb::UpdateProjectRequest {
        project: Some(project),
        update_mask: Some(mask(paths)),
        ..Default::default()
    }
}

fn with_id(id: &str) -> pb::Project {
    pb::Project {
        id: id.to_owned(),
        ..Default::default()
    }
}

async fn created(firm: &Firm, request: pb::CreateProjectRequest) -> pb::Project {
    let answer = firm.projects().create_project(request).await;
    answer
        .expect("created")
        .into_inner()
        .project
        .expect("the project")
}

async fn updated(firm: &Firm, request: pb::UpdateProjectRequest) -> pb::Project {
    let answer = firm.projects().update_project(request).await;
    answer
        .expect("updated")
        .into_inner()
        .project
        .expect("the project")
}

async fn listed(firm: &Firm, client_id: &str, state: pb::ProjectState) -> Vec<String> {
    let request = pb::ListProjectsRequest {
        client_id: client_id.to_owned(),
        state: state.into(),
        ..Default::default()
    };
    let answer = firm.projects().list_projects(request).await;
    let projects = answer.expect("a page").into_inner().projects;
    projects.into_iter().map(|project| project.id).collect()
}

#[tokio::test]
async fn a_created_project_is_active_and_reads_back_as_it_was_asked_for() {
    let firm = Firm::new("Acme").await;
    let asked = project(&firm.wins_client("Globex").await.id);
    let answered = created(&firm, create(&asked)).await;
    let expected = pb::Project {
        id: answered.id.clone(),
        state: pb::ProjectState::Active.into(),
        etag: answered.etag.clone(),
        create_time: answered.create_time,
        update_time: answered.update_time,
        ..asked
    };
    assert_eq!(answered, expected);
    let read = firm
        .projects()
        .get_project(get(&answered.id))
        .await
        .expect("found");
    assert_eq!(read.into_inner().project, Some(expected));
}

#[tokio::test]
async fn the_creation_of_a_project_is_told_with_what_other_services_keep_of_it() {
    let firm = Firm::new("Acme").await;
    let mut ear = Ear::of(&firm).await;
    let project = firm.creates_project("Apollo").await;
    let (version, event) = ear.hears::<pb::ProjectCreated>(&project.id).await;
    let expected = pb::ProjectCreated {
        project_id: project.id,
        client_id: project.client_id,
        code: project.code,
        display_name: project.display_name,
        state: pb::ProjectState::Active.into(),
        billable: true,
    };
    assert_eq!((version, event), (1, expected));
}

#[tokio::test]
async fn a_repeated_creation_returns_the_first_project() {
    let firm = Firm::new("Acme").await;
    let asked = project(&firm.wins_client("Globex").await.id);
    let request = pb::CreateProjectRequest {
        request_id: new_id(),
        ..create(&asked)
    };
    let first = created(&firm, request.clone()).await;
    assert_eq!(created(&firm, request).await, first);
}

#[tokio::test]
async fn a_project_of_an_unknown_client_is_not_found() {
    let firm = Firm::new("Acme").await;
    let answer = firm
        .projects()
        .create_project(create(&project(&new_id())))
        .await;
    assert_refused(answer, Code::NotFound, "NOT_FOUND");
}

#[tokio::test]
async fn a_project_code_is_taken_once() {
    let firm = Firm::new("Acme").await;
    let asked = project(&firm.wins_client("Globex").await.id);
    created(&firm, create(&asked)).await;
    let answer = firm.projects().create_project(create(&asked)).await;
    assert_refused(answer, Code::AlreadyExists, "CODE_TAKEN");
}

#[tokio::test]
async fn every_wrong_field_of_a_new_project_is_named() {
    let firm = Firm::new("Acme").await;
    let wrong = pb::Project {
        client_id: "globex".to_owned(),
        code: String::new(),
        display_name: "x".repeat(201),
        budget_minutes: Some(-1),
        budget: Some(Money {
            minor_units: -1,
            currency_code: "EUR".to_owned(),
        }),
        start_date: "2026-03-02".to_owned(),
        end_date: "2026-03-01".to_owned(),
        ..Default::default()
    };
    let answer = firm.projects().create_project(create(&wrong)).await;
    let expected = [
        "project.client_id",
        "project.code",
        "project.display_name",
        "project.budget_minutes",
        "project.budget.minor_units",
        "project.end_date",
    ];
    assert_eq!(invalid_fields(answer), expected);
}

#[tokio::test]
async fn an_unknown_project_is_not_found() {
    let firm = Firm::new("Acme").await;
    let answer = firm.projects().get_project(get(&new_id())).await;
    assert_refused(answer, Code::NotFound, "NOT_FOUND");
}

#[tokio::test]
async fn a_project_id_that_is_no_uuid_is_refused() {
    let firm = Firm::new("Acme").await;
    let answer = firm.projects().get_project(get("apollo")).await;
    assert_eq!(invalid_fields(answer), ["project_id"]);
}

#[tokio::test]
async fn projects_are_listed_by_client_by_state_and_by_both() {
    let firm = Firm::new("Acme").await;
    let (one, two, three) = (
        firm.creates_project("One").await,
        firm.creates_project("Two").await,
        firm.creates_project("Three").await,
    );
    let request = pb::ArchiveProjectRequest {
        project_id: two.id.clone(),
        ..Default::default()
    };
    firm.projects()
        .archive_project(request)
        .await
        .expect("archived");
    let (any, active, archived) = (
        pb::ProjectState::Unspecified,
        pb::ProjectState::Active,
        pb::ProjectState::Archived,
    );
    let all = [one.id.as_str(), two.id.as_str(), three.id.as_str()];
    assert_eq!(listed(&firm, "", any).await, all);
    assert_eq!(
        listed(&firm, "", active).await,
        [one.id.as_str(), three.id.as_str()]
    );
    assert_eq!(listed(&firm, "", archived).await, [two.id.as_str()]);
    assert_eq!(listed(&firm, &two.client_id, any).await, [two.id.as_str()]);
    assert_eq!(
        listed(&firm, &two.client_id, archived).await,
        [two.id.as_str()]
    );
    assert!(listed(&firm, &two.client_id, active).await.is_empty());
}

#[tokio::test]
async fn the_projects_of_an_unknown_client_are_none() {
    let firm = Firm::new("Acme").await;
    firm.creates_project("Apollo").await;
    assert!(
        listed(&firm, &new_id(), pb::ProjectState::Unspecified)
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn a_page_of_projects_is_followed_by_the_rest_under_the_same_filter_only() {
    let firm = Firm::new("Acme").await;
    let client = firm.wins_client("Globex").await;
    let mut expected = Vec::new();
    for _ in 0..3 {
        expected.push(created(&firm, create(&project(&client.id))).await);
    }
    let request = pb::ListProjectsRequest {
        page_size: 2,
        client_id: client.id,
        ..Default::default()
    };
    let first = firm
        .projects()
        .list_projects(request.clone())
        .await
        .expect("a page")
        .into_inner();
    let rest = pb::ListProjectsRequest {
        page_token: first.next_page_token,
        ..request
    };
    let second = firm
        .projects()
        .list_projects(rest.clone())
        .await
        .expect("a page")
        .into_inner();
    assert_eq!([first.projects, second.projects].concat(), expected);
    assert_eq!(second.next_page_token, "");
    let other = pb::ListProjectsRequest {
        state: pb::ProjectState::Active.into(),
        ..rest
    };
    let refused = firm.projects().list_projects(other).await;
    assert_refused(refused, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
}

#[tokio::test]
async fn a_filter_that_cannot_be_read_is_refused() {
    let firm = Firm::new("Acme").await;
    let request = pb::ListProjectsRequest {
        client_id: "globex".to_owned(),
        state: 99,
        ..Default::default()
    };
    let answer = firm.projects().list_projects(request).await;
    assert_eq!(invalid_fields(answer), ["client_id", "state"]);
}

#[tokio::test]
async fn an_update_of_a_project_clears_a_named_field_without_a_value_and_leaves_the_others() {
    let firm = Firm::new("Acme").await;
    let before = created(
        &firm,
        create(&project(&firm.wins_client("Globex").await.id)),
    )
    .await;
    let after = updated(&firm, update(with_id(&before.id), &["budget", "end_date"])).await;
    let expected = pb::Project {
        budget: None,
        end_date: String::new(),
        etag: after.etag.clone(),
        update_time: after.update_time,
        ..before
    };
    assert_eq!(after, expected);
}

#[tokio::test]
async fn an_update_without_a_mask_changes_what_is_set() {
    let firm = Firm::new("Acme").await;
    let before = created(
        &firm,
        create(&project(&firm.wins_client("Globex").await.id)),
    )
    .await;
    let request = pb::UpdateProjectRequest {
        project: Some(pb::Project {
            budget_minutes: Some(0),
            ..with_id(&before.id)
        }),
        ..Default::default()
    };
    let after = updated(&firm, request).await;
    assert_eq!(after.budget_minutes, Some(0));
    assert_eq!(
        (after.display_name, after.billable),
        (before.display_name, true)
    );
}

#[tokio::test]
async fn an_update_of_a_project_is_told_with_the_names_of_what_changed() {
    let firm = Firm::new("Acme").await;
    let mut ear = Ear::of(&firm).await;
    let project = firm.creates_project("Apollo").await;
    let wished = pb::Project {
        budget_minutes: Some(60),
        ..with_id(&project.id)
    };
    updated(
        &firm,
        update(wished, &["billable", "budget_minutes", "start_date"]),
    )
    .await;
    ear.hears::<pb::ProjectCreated>(&project.id).await;
    let (version, event) = ear.hears::<pb::ProjectUpdated>(&project.id).await;
    assert_eq!((version, event.billable), (2, false));
    assert_eq!(event.changed_fields, ["billable", "budget_minutes"]);
}

#[tokio::test]
async fn a_new_last_day_is_held_against_the_first_day_that_is_stored() {
    let firm = Firm::new("Acme").await;
    let before = created(
        &firm,
        create(&project(&firm.wins_client("Globex").await.id)),
    )
    .await;
    let wished = pb::Project {
        end_date: "2026-03-01".to_owned(),
        ..with_id(&before.id)
    };
    let answer = firm
        .projects()
        .update_project(update(wished, &["end_date"]))
        .await;
    assert_eq!(invalid_fields(answer), ["project.end_date"]);
}

#[tokio::test]
async fn a_repeated_update_of_a_project_returns_its_first_answer() {
    let firm = Firm::new("Acme").await;
    let project = firm.creates_project("Apollo").await;
    let request = pb::UpdateProjectRequest {
        request_id: new_id(),
        ..update(with_id(&project.id), &["billable"])
    };
    let first = updated(&firm, request.clone()).await;
    assert_eq!(updated(&firm, request).await, first);
}

#[tokio::test]
async fn an_update_of_a_project_with_a_stale_etag_is_refused() {
    let firm = Firm::new("Acme").await;
    let project = firm.creates_project("Apollo").await;
    let wished = pb::Project {
        etag: project.etag,
        ..with_id(&project.id)
    };
    updated(&firm, update(wished.clone(), &["billable"])).await;
    let again = firm
        .projects()
        .update_project(update(wished, &["billable"]))
        .await;
    assert_refused(again, Code::Aborted, "ETAG_STALE");
}

#[tokio::test]
async fn an_update_of_an_unknown_project_is_not_found() {
    let firm = Firm::new("Acme").await;
    let answer = firm
        .projects()
        .update_project(update(with_id(&new_id()), &["billable"]))
        .await;
    assert_refused(answer, Code::NotFound, "NOT_FOUND");
}

#[tokio::test]
async fn the_client_of_a_project_cannot_be_changed() {
    let firm = Firm::new("Acme").await;
    let project = firm.creates_project("Apollo").await;
    let request = update(with_id(&project.id), &["client_id"]);
    let answer = firm.projects().update_project(request).await;
    assert_eq!(invalid_fields(answer), ["update_mask"]);
}

#[tokio::test]
async fn the_role_consultant_reads_projects_and_writes_none() {
    let firm = Firm::new("Acme").await;
    let before = firm.creates_project("Apollo").await;
    let kim = firm.user("kim", &["consultant"]);
    let read = kim
        .projects()
        .get_project(get(&before.id))
        .await
        .expect("found");
    assert_eq!(read.into_inner().project.as_ref(), Some(&before));
    kim.projects()
        .list_projects(pb::ListProjectsRequest::default())
        .await
        .expect("a page");
    let create = kim
        .projects()
        .create_project(create(&project(&before.client_id)))
        .await;
    assert_refused(create, Code::PermissionDenied, "PERMISSION_DENIED");
    let update = kim
        .projects()
        .update_project(update(with_id(&before.id), &["billable"]))
        .await;
    assert_refused(update, Code::PermissionDenied, "PERMISSION_DENIED");
}
