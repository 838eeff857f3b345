//! Readiness that tells the truth: `/readyz` and gRPC health while the database of a service is away, and after.

use std::net::SocketAddr;

use harness::{eventually, world};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// What a way to the database lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    /// Nothing, without a word: a server that has stopped, or a network that drops.
    Silent,
    /// Connections are closed.
    Closed,
}

/// A way to the database that the test opens and closes.
struct Detour {
    address: SocketAddr,
    way: watch::Sender<Way>,
}

impl Detour {
    async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let way = watch::channel(Way::Open).0;
        let state = way.subscribe();
        #[expect(clippy::disallowed_methods, reason = "lives as long as the test")]
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, target.clone(), state.clone()));
            }
        });
        Self { address, way }
    }
}

async fn carry(near: TcpStream, target: String, way: watch::Receiver<Way>) {
    let mut closed = way.clone();
    let both = async {
        let far = TcpStream::connect(target).await.expect("the database");
        let (near_in, near_out) = near.into_split();
        let (far_in, far_out) = far.into_split();
        tokio::join!(
            pass(near_in, far_out, way.clone()),
            pass(far_in, near_out, way.clone())
        );
    };
    tokio::select! {
        () = both => {}
        _ = closed.wait_for(|way| *way == Way::Closed) => {}
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut way: watch::Receiver<Way>,
) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if way.wait_for(|way| *way == Way::Open).await.is_err()
            || to.write_all(&bytes[..count]).await.is_err()
        {
            return;
        }
    }
}

/// What `/readyz` says: its status and its text.
async fn asks_ready(admin: SocketAddr) -> (u16, String) {
    let answer = reqwest::get(format!("http://{admin}/readyz")).await;
    let answer = answer.expect("the admin server answers");
    let status = answer.status().as_u16();
    (status, answer.text().await.expect("text"))
}

async fn asks_health(address: SocketAddr, service: &str) -> ServingStatus {
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    let mut client = HealthClient::new(endpoint.expect("a URL").connect_lazy());
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let answer = client.check(request).await.expect("it answers");
    answer.into_inner().status()
}

#[tokio::test]
async fn a_process_whose_database_is_away_is_not_ready_and_says_which_until_it_is_back() {
    let mut settings = harness::settings();
    let url = world().settings.database.database_url.clone();
    let (_, rest) = url.split_once("://").expect("a URL");
    let target = rest.split(['/', '?']).next().expect("a host").to_owned();
    let detour = Detour::to(target.clone()).await;
    settings.database.database_url = url.replace(&target, &detour.address.to_string());
    let host = harness::host(&settings, &["consultants"]).await;
    let host = host.expect("it starts");
    let service = "catalyst.consultants.v1.ConsultantService";
    let ready = (200, "ready\n".to_owned());
    assert_eq!(asks_ready(host.admin_address).await, ready);

    for away in [Way::Closed, Way::Silent] {
        detour.way.send_replace(away);
        let said = eventually("the process is not ready", async || {
            let said = asks_ready(host.admin_address).await;
            (said != ready).then_some(said)
        })
        .await;
        let text = "not ready: the database of consultants does not answer\n";
        assert_eq!(said, (503, text.to_owned()), "{away:?}");
        eventually("health says so too", async || {
            let service = asks_health(host.address, service).await;
            let whole = asks_health(host.address, "").await;
            (service == ServingStatus::NotServing && whole == ServingStatus::NotServing)
                .then_some(())
        })
        .await;

        detour.way.send_replace(Way::Open);
        eventually("the process is ready again", async || {
            (asks_ready(host.admin_address).await == ready).then_some(())
        })
        .await;
        eventually("health says so too", async || {
            let service = asks_health(host.address, service).await;
            let whole = asks_health(host.address, "").await;
            (service == ServingStatus::Serving && whole == ServingStatus::Serving).then_some(())
        })
        .await;
    }
    host.stop().await;
}
