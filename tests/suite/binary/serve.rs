//! `catalyst serve`: a service as a process of its own, beside another replica of it.

use std::process::Stdio;
use std::time::{Duration, Instant};

use futures::StreamExt;
use harness::{Firm, eventually, free_address, within, world};
use proto::consultants::v1 as pb;
use proto::consultants::v1::consultant_service_client::ConsultantServiceClient;
use tonic::Request;
use tonic::transport::Endpoint;

use super::program::serve_command;

#[tokio::test]
async fn a_second_replica_serves_the_same_tenants_passes_its_events_on_and_stops_on_sigterm() {
    let firm = Firm::new("Replicated").await;
    let address = free_address().to_string();
    let mut replica = serve_command("consultants", &[("CATALYST_LISTEN", &address)])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");

    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URL");
    let channel = within(Duration::from_secs(20), async || {
        endpoint.connect().await.ok()
    })
    .await;
    let mut client = ConsultantServiceClient::new(channel.expect("the replica listens"));
    let consultant = pb::Consultant {
        code: "K-1".to_owned(),
        display_name: "Kim".to_owned(),
        ..Default::default()
    };
    let mut wakes = hears_wakes().await;
    let mut request = Request::new(pb::CreateConsultantRequest {
        consultant: Some(consultant),
        ..Default::default()
    });
    *request.metadata_mut() = firm.metadata().clone();
    let created = client
        .create_consultant(request)
        .await
        .expect("created")
        .into_inner();
    let id = created.consultant.expect("the consultant").id;

    // Written by one replica, read through the other; its event is moved by whichever holds the relay's lease.
    let request = pb::GetConsultantRequest {
        consultant_id: id.clone(),
    };
    firm.consultants()
        .get_consultant(request)
        .await
        .expect("the other replica reads it");
    eventually("the event is on record", async || {
        let filter = proto::audit::v1::RecordFilter {
            resource_id: id.clone(),
            ..Default::default()
        };
        let request = proto::audit::v1::ListRecordsRequest {
            filter: Some(filter),
            ..Default::default()
        };
        firm.audit()
            .list_records(request)
            .await
            .ok()?
            .into_inner()
            .records
            .into_iter()
            .next()
    })
    .await;

    // A change is a wake-up at the most; standby relays that woke each other would send thousands a second.
    let mut heard = 0;
    let listening = Instant::now();
    while listening.elapsed() < Duration::from_secs(1) {
        if let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(100), wakes.next()).await {
            heard += 1;
        }
    }
    assert!(heard < 200, "{heard} wake-ups in a second");

    let since = Instant::now();
    std::process::Command::new("kill")
        .args(["-TERM", &replica.id().to_string()])
        .status()
        .expect("kill runs");
    let ended = within(Duration::from_secs(15), async || {
        replica.try_wait().ok().flatten()
    })
    .await;
    assert_eq!(ended.expect("it ends").code(), Some(0));
    assert!(
        since.elapsed() < Duration::from_secs(10),
        "the stop took {:?}",
        since.elapsed()
    );
}

/// The wake-ups between the relays of the consultants service, as that service hears them.
async fn hears_wakes() -> async_nats::Subscriber {
    let path = world().credentials_dir.join("consultants.creds");
    let options = async_nats::ConnectOptions::with_credentials_file(path)
        .await
        .expect("the service has credentials");
    let client = options.connect(&world().nats_url).await.expect("connected");
    let wakes = client
        .subscribe("relay.consultants")
        .await
        .expect("subscribed");
    client.flush().await.expect("flushed");
    wakes
}
