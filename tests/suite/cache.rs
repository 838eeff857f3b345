//! A replica that remembers what it has read: what it serves is the tenant's own, as old as is promised at most, and
//! nothing to a firm that is shut out.

use std::time::Instant;

use harness::{Caller, Firm, Replica, eventually, world};
use proto::projects::v1 as projects;
use proto::tenants::v1 as tenants;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tonic::{Code, Status};
use uuid::Uuid;

async fn replica() -> Replica {
    Replica::with(|settings| settings.cache.cache_entries = 1_000).await
}

async fn name(caller: &Caller, project: &str) -> Result<String, Status> {
    let request = projects::GetProjectRequest {
        project_id: project.to_owned(),
    };
    let found = caller.projects().get_project(request).await?;
    Ok(found
        .into_inner()
        .project
        .expect("the project")
        .display_name)
}

async fn renames(caller: &Caller, project: &str, name: &str) {
    let project = projects::Project {
        id: project.to_owned(),
        display_name: name.to_owned(),
        ..Default::default()
    };
    let request = projects::UpdateProjectRequest {
        project: Some(project),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["display_name".to_owned()],
        }),
        ..Default::default()
    };
    let renamed = caller.projects().update_project(request).await;
    renamed.expect("the project is renamed");
}

/// Changes a row without an event, which no service does.
async fn forges(firm: &Firm, project: &str, name: &str) {
    let mut admin = PgConnection::connect(&world().postgres_admin_url)
        .await
        .expect("the database");
    sqlx::query("update projects.project set display_name = $3 where tenant_id = $1 and id = $2")
        .bind(firm.id.uuid())
        .bind(Uuid::try_parse(project).expect("an id"))
        .bind(name)
        .execute(&mut admin)
        .await
        .expect("the row is changed");
}

#[tokio::test]
async fn what_was_read_is_served_again_and_for_five_seconds_at_most() {
    let firm = Firm::new("Reader").await;
    let project = firm.creates_project("Apollo").await.id;
    let replica = replica().await;
    let caller = replica.called_by(&firm);
    let read = Instant::now();
    assert_eq!(name(&caller, &project).await.expect("found"), "Apollo");
    forges(&firm, &project, "Forged").await;
    assert_eq!(name(&firm, &project).await.expect("found"), "Forged");
    // The row has another name, which nobody told: so this was remembered.
    let remembered = name(&caller, &project).await.expect("found");
    assert!(remembered == "Apollo" || read.elapsed().as_secs() >= 5);
    eventually("it is read again", async || {
        (name(&caller, &project).await.expect("found") == "Forged").then_some(())
    })
    .await;
    replica.stop().await;
}

#[tokio::test]
async fn a_change_on_another_replica_is_served_as_soon_as_its_event_is_heard() {
    let firm = Firm::new("Changer").await;
    let project = firm.creates_project("Apollo").await.id;
    let replica = replica().await;
    let caller = replica.called_by(&firm);
    for round in 0..5 {
        name(&caller, &project).await.expect("found");
        let renamed = format!("Apollo {round}");
        renames(&firm, &project, &renamed).await;
        let since = Instant::now();
        eventually("the change is served", async || {
            (name(&caller, &project).await.expect("found") == renamed).then_some(())
        })
        .await;
        assert!(since.elapsed().as_secs() < 4, "{:?}", since.elapsed());
    }
    replica.stop().await;
}

#[tokio::test]
async fn a_change_on_the_same_replica_is_served_at_once() {
    let firm = Firm::new("Writer").await;
    let project = firm.creates_project("Apollo").await.id;
    let replica = replica().await;
    let caller = replica.called_by(&firm);
    for round in 0..10 {
        name(&caller, &project).await.expect("found");
        let renamed = format!("Apollo {round}");
        renames(&caller, &project, &renamed).await;
        assert_eq!(name(&caller, &project).await.expect("found"), renamed);
    }
    replica.stop().await;
}

#[tokio::test]
async fn another_firm_never_meets_what_is_remembered_and_a_firm_that_is_shut_out_neither() {
    let (own, other) = tokio::join!(Firm::new("Own"), Firm::new("Other"));
    let project = own.creates_project("Apollo").await.id;
    let replica = replica().await;
    let caller = replica.called_by(&own);
    name(&caller, &project).await.expect("found");
    let stranger = replica.called_by(&other);
    for _ in 0..2 {
        let missed = name(&stranger, &project).await.expect_err("not found");
        assert_eq!(missed.code(), Code::NotFound);
    }
    name(&caller, &project).await.expect("found");
    let request = tenants::SuspendTenantRequest {
        tenant_id: own.id.to_string(),
        reason: "test".to_owned(),
        ..Default::default()
    };
    let suspended = Caller::operator().tenants().suspend_tenant(request).await;
    suspended.expect("suspended");
    eventually("the firm is shut out", async || {
        let refused = name(&caller, &project).await.err()?;
        (refused.code() == Code::PermissionDenied).then_some(())
    })
    .await;
    replica.stop().await;
}
