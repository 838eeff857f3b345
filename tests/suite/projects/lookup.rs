//! The look-up for other services: whom it answers, and with what.

use harness::{Caller, Firm};
use proto::projects::v1 as pb;
use proto::projects::v1::project_lookup_service_client::ProjectLookupServiceClient;
use tonic::{Code, Response, Status};

use super::{assert_refused, invalid_fields, new_id};

async fn lookup(caller: Caller, id: &str) -> Result<Response<pb::LookupProjectResponse>, Status> {
    let request = pb::LookupProjectRequest {
        project_id: id.to_owned(),
    };
    ProjectLookupServiceClient::with_interceptor(caller.channel(), caller)
        .lookup_project(request)
        .await
}

fn time_entries(firm: &Firm) -> Caller {
    Caller::service("time-entries", "projects", firm.id)
}

#[tokio::test]
async fn another_service_is_told_what_it_keeps_of_a_project() {
    let firm = Firm::new("Acme").await;
    let project = firm.creates_project("Apollo").await;
    let answer = lookup(time_entries(&firm), &project.id)
        .await
        .expect("found");
    let expected = pb::ProjectReference {
        id: project.id,
        code: project.code,
        display_name: project.display_name,
        client_id: project.client_id,
        state: pb::ProjectState::Active.into(),
        billable: true,
        version: 1,
    };
    assert_eq!(answer.into_inner().project, Some(expected));
}

#[tokio::test]
async fn another_service_does_not_find_an_unknown_project() {
    let firm = Firm::new("Acme").await;
    let answer = lookup(time_entries(&firm), &new_id()).await;
    assert_refused(answer, Code::NotFound, "NOT_FOUND");
}

#[tokio::test]
async fn another_service_must_name_the_project() {
    let firm = Firm::new("Acme").await;
    let answer = lookup(time_entries(&firm), "").await;
    assert_eq!(invalid_fields(answer), ["project_id"]);
}

#[tokio::test]
async fn neither_users_nor_services_that_keep_no_projects_may_look_them_up() {
    let firm = Firm::new("Acme").await;
    let project = firm.creates_project("Apollo").await;
    let consultants = Caller::service("consultants", "projects", firm.id);
    for caller in [firm.user("admin", &["admin"]), consultants] {
        let answer = lookup(caller, &project.id).await;
        assert_refused(answer, Code::PermissionDenied, "PERMISSION_DENIED");
    }
}
