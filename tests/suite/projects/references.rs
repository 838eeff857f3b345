//! What the service keeps of consultants: their newest version, by events and by asking.

use harness::{Firm, eventually, world};
use proto::consultants::v1 as consultants;
use proto::projects::v1 as pb;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tonic::Code;

use super::reason;

/// Name and version that the service keeps of a consultant. The API does not show them.
async fn kept(consultant_id: &str) -> Option<(String, i64)> {
    let mut admin = PgConnection::connect(&world().postgres_admin_url)
        .await
        .expect("the administrator connects");
    let sql = "select display_name, version from projects.consultant where id = $1::uuid";
    let row = sqlx::query_as(sql)
        .bind(consultant_id)
        .fetch_optional(&mut admin);
    row.await.expect("the reference is read")
}

async fn rename(firm: &Firm, consultant_id: &str, display_name: &str) {
    let consultant = consultants::Consultant {
        id: consultant_id.to_owned(),
        display_name: display_name.to_owned(),
        ..Default::default()
    };
    let request = consultants::UpdateConsultantRequest {
        consultant: Some(consultant),
        ..Default::default()
    };
    firm.consultants()
        .update_consultant(request)
        .await
        .expect("renamed");
}

#[tokio::test]
async fn a_consultant_whom_nobody_asked_for_is_known_by_events_at_the_newest_version() {
    let firm = Firm::new("Acme").await;
    let kim = firm.hires("Kim").await;
    for i in 2..=10 {
        rename(&firm, &kim.id, &format!("Kim {i}")).await;
    }
    let name = eventually("the newest version arrives", async || {
        let (name, version) = kept(&kim.id).await?;
        (version == 10).then_some(name)
    })
    .await;
    assert_eq!(name, "Kim 10");
}

#[tokio::test]
async fn a_consultant_who_is_assigned_at_once_ends_at_the_newest_version_too() {
    let firm = Firm::new("Acme").await;
    let (project, kim) = (
        firm.creates_project("Apollo").await,
        firm.hires("Kim").await,
    );
    rename(&firm, &kim.id, "Kim 2").await;
    firm.assigns(&project.id, &kim.id).await;
    rename(&firm, &kim.id, "Kim 3").await;
    eventually("the newest version arrives", async || {
        (kept(&kim.id).await? == ("Kim 3".to_owned(), 3)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_consultant_who_was_assigned_before_is_not_assigned_once_the_end_is_heard() {
    let firm = Firm::new("Acme").await;
    let (project, kim) = (
        firm.creates_project("Apollo").await,
        firm.hires("Kim").await,
    );
    let assignment = firm.assigns(&project.id, &kim.id).await;
    let request = consultants::DeactivateConsultantRequest {
        consultant_id: kim.id.clone(),
        ..Default::default()
    };
    firm.consultants()
        .deactivate_consultant(request)
        .await
        .expect("deactivated");
    // The same days again: refused as taken until the end is heard.
    let request = pb::AssignConsultantRequest {
        assignment: Some(assignment),
        ..Default::default()
    };
    let refused = eventually("the consultant is known as inactive", async || {
        let status = firm
            .projects()
            .assign_consultant(request.clone())
            .await
            .err()?;
        (reason(&status) == "CONSULTANT_INACTIVE").then_some(status)
    })
    .await;
    assert_eq!(refused.code(), Code::FailedPrecondition);
}
