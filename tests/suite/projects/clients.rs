//! Clients: create, get, list, update.

use harness::Firm;
use proto::projects::v1 as pb;
use tonic::Code;

use super::{Ear, assert_refused, invalid_fields, mask, new_code, new_id};

fn client(code: &str, display_name: &str) -> pb::Client {
    pb::Client {
        code: code.to_owned(),
        display_name: display_name.to_owned(),
        ..Default::default()
    }
}

fn create(code: &str, request_id: &str) -> pb::CreateClientRequest {
    pb::CreateClientRequest {
        client: Some(client(code, "Globex")),
        request_id: request_id.to_owned(),
    }
}

fn get(id: &str) -> pb::GetClientRequest {
    pb::GetClientRequest {
        client_id: id.to_owned(),
    }
}

fn rename(id: &str, display_name: &str) -> pb::UpdateClientRequest {
    let client = pb::Client {
        id: id.to_owned(),
        ..client("", display_name)
    };
    pb::UpdateClientRequest {
        client: Some(client),
        update_mask: Some(mask(&["display_name"])),
        ..Default::default()
    }
}

async fn created(firm: &Firm, request: pb::CreateClientRequest) -> pb::Client {
    let answer = firm.projects().create_client(request).await;
    answer
        .expect("created")
        .into_inner()
        .client
        .expect("the client")
}

async fn updated(firm: &Firm, request: pb::UpdateClientRequest) -> pb::Client {
    let answer = firm.projects().update_client(request).await;
    answer
        .expect("updated")
        .into_inner()
        .client
        .expect("the client")
}

#[tokio::test]
async fn a_created_client_reads_back_as_it_was_answered() {
    let firm = Firm::new("Acme").await;
    let code = new_code();
    let client = created(&firm, create(&code, "")).await;
    assert_eq!(
        (client.code.as_str(), client.display_name.as_str()),
        (code.as_str(), "Globex")
    );
    assert_eq!(client.create_time, client.update_time);
    let read = firm
        .projects()
        .get_client(get(&client.id))
        .await
        .expect("found");
    assert_eq!(read.into_inner().client, Some(client));
}

#[tokio::test]
async fn the_creation_of_a_client_is_told_with_what_it_is_called() {
    let firm = Firm::new("Acme").await;
    let mut ear = Ear::of(&firm).await;
    let client = created(&firm, create(&new_code(), "")).await;
    let (version, event) = ear.hears::<pb::ClientCreated>(&client.id).await;
    assert_eq!(version, 1);
    assert_eq!(
        (event.client_id, event.code, event.display_name),
        (client.id, client.code, client.display_name)
    );
}

#[tokio::test]
async fn a_repeated_creation_returns_the_first_client() {
    let firm = Firm::new("Acme").await;
    let request = create(&new_code(), &new_id());
    let first = created(&firm, request.clone()).await;
    assert_eq!(created(&firm, request).await, first);
}

#[tokio::test]
async fn a_request_id_is_refused_with_another_client() {
    let firm = Firm::new("Acme").await;
    let request_id = new_id();
    created(&firm, create(&new_code(), &request_id)).await;
    let other = firm
        .projects()
        .create_client(create(&new_code(), &request_id))
        .await;
    assert_refused(other, Code::FailedPrecondition, "REQUEST_ID_REUSED");
}

#[tokio::test]
async fn a_client_code_is_taken_within_the_firm_alone() {
    let (firm, other) = tokio::join!(Firm::new("Acme"), Firm::new("Other"));
    let code = new_code();
    created(&firm, create(&code, "")).await;
    assert_refused(
        firm.projects().create_client(create(&code, "")).await,
        Code::AlreadyExists,
        "CODE_TAKEN",
    );
    created(&other, create(&code, "")).await;
}

#[tokio::test]
async fn every_wrong_field_of_a_new_client_is_named() {
    let firm = Firm::new("Acme").await;
    let request = pb::CreateClientRequest {
        client: Some(client("not a code", " ")),
        ..Default::default()
    };
    let answer = firm.projects().create_client(request).await;
    assert_eq!(
        invalid_fields(answer),
        ["client.code", "client.display_name"]
    );
}

#[tokio::test]
async fn an_unknown_client_is_not_found() {
    let firm = Firm::new("Acme").await;
    let answer = firm.projects().get_client(get(&new_id())).await;
    assert_refused(answer, Code::NotFound, "NOT_FOUND");
}

#[tokio::test]
async fn an_id_that_is_no_uuid_is_refused() {
    let firm = Firm::new("Acme").await;
    let answer = firm.projects().get_client(get("globex")).await;
    assert_eq!(invalid_fields(answer), ["client_id"]);
}

#[tokio::test]
async fn clients_are_listed_page_by_page_in_the_order_of_their_creation() {
    let firm = Firm::new("Acme").await;
    let mut expected = Vec::new();
    for _ in 0..5 {
        expected.push(created(&firm, create(&new_code(), "")).await);
    }
    let mut listed = Vec::new();
    let mut pages = 0;
    let mut request = pb::ListClientsRequest {
        page_size: 2,
        ..Default::default()
    };
    loop {
        let page = firm.projects().list_clients(request.clone()).await;
        let page = page.expect("a page").into_inner();
        listed.extend(page.clients);
        pages += 1;
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!((pages, listed), (3, expected));
}

#[tokio::test]
async fn a_page_token_that_was_not_given_out_is_refused() {
    let firm = Firm::new("Acme").await;
    let request = pb::ListClientsRequest {
        page_token: "nonsense".to_owned(),
        ..Default::default()
    };
    let answer = firm.projects().list_clients(request).await;
    assert_refused(answer, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
}

#[tokio::test]
async fn an_update_of_a_client_changes_only_what_its_mask_names() {
    let firm = Firm::new("Acme").await;
    let before = created(&firm, create(&new_code(), "")).await;
    let mut request = rename(&before.id, "Initech");
    request.client.as_mut().expect("the client").code = "not looked at".to_owned();
    let after = updated(&firm, request).await;
    assert_eq!(
        (after.code, after.display_name.as_str()),
        (before.code, "Initech")
    );
    assert_ne!(after.etag, before.etag);
}

#[tokio::test]
async fn an_update_of_a_client_is_told_with_the_names_of_what_changed() {
    let firm = Firm::new("Acme").await;
    let mut ear = Ear::of(&firm).await;
    let client = created(&firm, create(&new_code(), "")).await;
    let mut request = rename(&client.id, "Initech");
    request
        .client
        .as_mut()
        .expect("the client")
        .code
        .clone_from(&client.code);
    request.update_mask = Some(mask(&["*"]));
    updated(&firm, request).await;
    ear.hears::<pb::ClientCreated>(&client.id).await;
    let (version, event) = ear.hears::<pb::ClientUpdated>(&client.id).await;
    assert_eq!(
        (version, event.changed_fields),
        (2, vec!["display_name".to_owned()])
    );
}

#[tokio::test]
async fn an_update_of_a_client_that_changes_nothing_tells_nothing() {
    let firm = Firm::new("Acme").await;
    let mut ear = Ear::of(&firm).await;
    let client = created(&firm, create(&new_code(), "")).await;
    assert_eq!(updated(&firm, rename(&client.id, "Globex")).await, client);
    updated(&firm, rename(&client.id, "Initech")).await;
    ear.hears::<pb::ClientCreated>(&client.id).await;
    let (version, event) = ear.hears::<pb::ClientUpdated>(&client.id).await;
    assert_eq!((version, event.display_name.as_str()), (2, "Initech"));
}

#[tokio::test]
async fn a_repeated_update_of_a_client_returns_its_first_answer_even_after_another_change() {
    let firm = Firm::new("Acme").await;
    let client = created(&firm, create(&new_code(), "")).await;
    let request = pb::UpdateClientRequest {
        request_id: new_id(),
        ..rename(&client.id, "Initech")
    };
    let first = updated(&firm, request.clone()).await;
    updated(&firm, rename(&client.id, "Hooli")).await;
    assert_eq!(updated(&firm, request).await, first);
}

#[tokio::test]
async fn an_update_with_a_stale_etag_is_refused() {
    let firm = Firm::new("Acme").await;
    let client = created(&firm, create(&new_code(), "")).await;
    let mut request = rename(&client.id, "Initech");
    request.client.as_mut().expect("the client").etag = client.etag;
    updated(&firm, request.clone()).await;
    let again = firm.projects().update_client(request).await;
    assert_refused(again, Code::Aborted, "ETAG_STALE");
}

#[tokio::test]
async fn an_update_of_an_unknown_client_is_not_found() {
    let firm = Firm::new("Acme").await;
    let answer = firm
        .projects()
        .update_client(rename(&new_id(), "Initech"))
        .await;
    assert_refused(answer, Code::NotFound, "NOT_FOUND");
}

#[tokio::test]
async fn an_update_to_the_code_of_another_client_is_refused() {
    let firm = Firm::new("Acme").await;
    let taken = created(&firm, create(&new_code(), "")).await;
    let other = created(&firm, create(&new_code(), "")).await;
    let request = pb::UpdateClientRequest {
        client: Some(pb::Client {
            id: other.id,
            ..client(&taken.code, "")
        }),
        ..Default::default()
    };
    let answer = firm.projects().update_client(request).await;
    assert_refused(answer, Code::AlreadyExists, "CODE_TAKEN");
}

#[tokio::test]
async fn an_update_that_names_a_field_that_cannot_be_changed_is_refused() {
    let firm = Firm::new("Acme").await;
    let client = created(&firm, create(&new_code(), "")).await;
    let request = pb::UpdateClientRequest {
        update_mask: Some(mask(&["create_time"])),
        ..rename(&client.id, "Initech")
    };
    let answer = firm.projects().update_client(request).await;
    assert_eq!(invalid_fields(answer), ["update_mask"]);
}

#[tokio::test]
async fn the_role_consultant_reads_clients_and_writes_none() {
    let firm = Firm::new("Acme").await;
    let client = created(&firm, create(&new_code(), "")).await;
    let kim = firm.user("kim", &["consultant"]);
    kim.projects()
        .get_client(get(&client.id))
        .await
        .expect("found");
    let listed = kim
        .projects()
        .list_clients(pb::ListClientsRequest::default())
        .await;
    assert_eq!(listed.expect("a page").into_inner().clients.len(), 1);
    let create = kim.projects().create_client(create(&new_code(), "")).await;
    assert_refused(create, Code::PermissionDenied, "PERMISSION_DENIED");
    let update = kim
        .projects()
        .update_client(rename(&client.id, "Initech"))
        .await;
    assert_refused(update, Code::PermissionDenied, "PERMISSION_DENIED");
}
