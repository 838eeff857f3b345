//! gRPC over TLS: servers known by their certificates, callers known by theirs, and certificates that change.

use std::collections::BTreeMap;
use std::time::Duration;

use catalyst::services::ServiceSettings;
use harness::{Caller, Firm, eventually, host, host_with, own_source, refusals_of, settings};
use kit::host::Host;
use kit::settings::Settings;
use proto::common::v1::AuthenticationFailure;
use proto::consultants::v1::ListConsultantsRequest;
use proto::projects::v1 as projects;
use tokio::io::AsyncReadExt as _;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::certificates::{Authority, Folder};

/// Settings of a process whose certificate for `localhost` is by `authority`.
fn serving(authority: &Authority, folder: &Folder) -> Settings {
    let mut settings = settings();
    let files = authority.writes(&folder.0, "server", &["localhost"]);
    settings.wire.tls_cert_file = Some(files.cert);
    settings.wire.tls_key_file = Some(files.key);
    settings
}

/// The same, for callers with a certificate of `callers` alone.
fn mutual(authority: &Authority, callers: &Authority, folder: &Folder) -> Settings {
    let mut settings = serving(authority, folder);
    settings.wire.tls_client_ca_file = Some(callers.file(&folder.0, "callers.crt"));
    settings
}

fn trusting(authority: &Authority) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()))
}

fn showing(tls: ClientTlsConfig, (cert, key): (String, String)) -> ClientTlsConfig {
    tls.identity(Identity::from_pem(cert, key))
}

fn endpoint(host: &Host, tls: ClientTlsConfig) -> Endpoint {
    Endpoint::from_shared(format!("https://localhost:{}", host.address.port()))
        .expect("a URL")
        .tls_config(tls)
        .expect("a configuration")
}

async fn lists(firm: &Firm, channel: Channel) -> Result<(), tonic::Status> {
    let caller = firm.user("kim", &["admin"]).over(channel);
    let request = ListConsultantsRequest::default();
    let answer = caller.consultants().list_consultants(request).await;
    answer.map(|_| ())
}

/// Whether a call goes through; without a certificate that is believed, it fails at the first byte or the handshake.
async fn is_served(firm: &Firm, endpoint: Endpoint) -> bool {
    match lists(firm, endpoint.connect_lazy()).await {
        Ok(()) => true,
        Err(status) => {
            let of_the_wire = matches!(status.code(), Code::Unavailable | Code::Unknown);
            assert!(of_the_wire, "refused by the service itself: {status}");
            false
        }
    }
}

#[tokio::test]
async fn calls_over_tls_are_answered_and_their_sources_are_on_record() {
    let folder = Folder::new();
    let firm = Firm::new("Encrypted").await;
    let authority = Authority::new("own");
    let host = host(&serving(&authority, &folder), &["consultants"]).await;
    let host = host.expect("it starts");
    let source = own_source();
    let channel = endpoint(&host, trusting(&authority))
        .local_address(Some(source))
        .connect_lazy();
    lists(&firm, channel.clone()).await.expect("answered");

    let stranger = Caller::bare(firm.id).over(channel);
    let request = ListConsultantsRequest::default();
    let refused = stranger.consultants().list_consultants(request).await;
    assert_eq!(refused.expect_err("refused").code(), Code::Unauthenticated);
    let expected = BTreeMap::from([(AuthenticationFailure::Missing, 1)]);
    eventually("the source is on record", async || {
        (refusals_of(source).await == expected).then_some(())
    })
    .await;
    host.stop().await;
}

#[tokio::test]
async fn plaintext_to_a_port_with_tls_is_not_answered() {
    let folder = Folder::new();
    let firm = Firm::new("Plain").await;
    let authority = Authority::new("own");
    let host = host(&serving(&authority, &folder), &["consultants"]).await;
    let host = host.expect("it starts");
    let plain = Endpoint::from_shared(format!("http://{}", host.address)).expect("a URL");
    assert!(!is_served(&firm, plain).await);
    assert!(is_served(&firm, endpoint(&host, trusting(&authority))).await);
    host.stop().await;
}

#[tokio::test]
async fn a_server_is_not_believed_with_another_authority_or_another_name() {
    let folder = Folder::new();
    let firm = Firm::new("Doubtful").await;
    let (authority, other) = (Authority::new("own"), Authority::new("other"));
    let host = host(&serving(&authority, &folder), &["consultants"]).await;
    let host = host.expect("it starts");
    assert!(!is_served(&firm, endpoint(&host, trusting(&other))).await);
    let by_address = Endpoint::from_shared(format!("https://{}", host.address))
        .expect("a URL")
        .tls_config(trusting(&authority))
        .expect("a configuration");
    assert!(!is_served(&firm, by_address).await);
    host.stop().await;
}

#[tokio::test]
async fn where_callers_need_certificates_none_and_a_foreign_one_are_refused() {
    let folder = Folder::new();
    let firm = Firm::new("Mutual").await;
    let (authority, callers, foreign) = (
        Authority::new("own"),
        Authority::new("callers"),
        Authority::new("foreign"),
    );
    let host = host(&mutual(&authority, &callers, &folder), &["consultants"]).await;
    let host = host.expect("it starts");
    let tls = || trusting(&authority);
    assert!(!is_served(&firm, endpoint(&host, tls())).await);
    let shown = showing(tls(), foreign.issues(&["client"]));
    assert!(!is_served(&firm, endpoint(&host, shown)).await);
    // The server's own authority is not the one of its callers.
    let shown = showing(tls(), authority.issues(&["client"]));
    assert!(!is_served(&firm, endpoint(&host, shown)).await);
    let shown = showing(tls(), callers.issues(&["client"]));
    assert!(is_served(&firm, endpoint(&host, shown)).await);
    host.stop().await;
}

#[tokio::test]
async fn a_certificate_that_changes_is_used_for_the_next_connection_and_a_broken_one_is_not() {
    let folder = Folder::new();
    let firm = Firm::new("Renewed").await;
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let host = host(&serving(&old, &folder), &["consultants"]).await;
    let host = host.expect("it starts");
    assert!(is_served(&firm, endpoint(&host, trusting(&old))).await);
    let established = endpoint(&host, trusting(&old)).connect_lazy();
    lists(&firm, established.clone()).await.expect("answered");

    // One file of the pair is not enough.
    let (cert, key) = new.issues(&["localhost"]);
    std::fs::write(folder.0.join("server.crt"), cert).expect("written");
    eventually("more than a second has passed", {
        let since = std::time::Instant::now();
        async move || (since.elapsed() > Duration::from_millis(1_200)).then_some(())
    })
    .await;
    assert!(is_served(&firm, endpoint(&host, trusting(&old))).await);

    std::fs::write(folder.0.join("server.key"), key).expect("written");
    eventually("the new certificate is shown", async || {
        is_served(&firm, endpoint(&host, trusting(&new)))
            .await
            .then_some(())
    })
    .await;
    assert!(!is_served(&firm, endpoint(&host, trusting(&old))).await);
    lists(&firm, established)
        .await
        .expect("connections that stand are not cut");
    host.stop().await;
}

#[tokio::test]
async fn peers_that_say_nothing_hold_up_nobody_and_are_cut_off() {
    let folder = Folder::new();
    let firm = Firm::new("Patient").await;
    let authority = Authority::new("own");
    let host = host(&serving(&authority, &folder), &["consultants"]).await;
    let host = host.expect("it starts");
    let mut silent = Vec::new();
    for _ in 0..64 {
        let stream = tokio::net::TcpStream::connect(host.address).await;
        silent.push(stream.expect("connected"));
    }
    assert!(is_served(&firm, endpoint(&host, trusting(&authority))).await);
    for stream in &mut silent {
        let mut rest = Vec::new();
        let cut = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest));
        assert!(cut.await.is_ok(), "a silent peer is still connected");
    }
    host.stop().await;
}

/// A process with projects alone, which looks consultants up at `owner`.
async fn projects_beside(owner: &Host, change: impl FnOnce(&mut Settings)) -> Host {
    let mut settings = settings();
    change(&mut settings);
    let mut own = ServiceSettings::default();
    let url = format!("https://localhost:{}", owner.address.port());
    own.projects.consultants_url = Some(url);
    let host = host_with(&settings, &["projects"], &own).await;
    host.expect("it starts")
}

#[tokio::test]
async fn services_call_each_other_with_certificates_and_not_without() {
    let folder = Folder::new();
    let firm = Firm::new("Together").await;
    let (authority, callers) = (Authority::new("own"), Authority::new("callers"));
    let trusted = authority.file(&folder.0, "authority.crt");
    let foreign = Authority::new("foreign").file(&folder.0, "foreign.crt");
    let shown = callers.writes(&folder.0, "caller", &["projects"]);
    let owner = host(&mutual(&authority, &callers, &folder), &["consultants"]).await;
    let owner = owner.expect("it starts");
    // Known to nobody, so that its owner must be asked: NOT_FOUND is the answer of a wire that works.
    let consultant = kit::ctx::Clock::system().new_uuid().to_string();
    let project = firm.creates_project("Apollo").await;
    let assign = async |at: &Host| {
        let channel = Endpoint::from_shared(format!("http://{}", at.address))
            .expect("a URL")
            .connect_lazy();
        let assignment = projects::Assignment {
            project_id: project.id.clone(),
            consultant_id: consultant.clone(),
            role: "engineer".to_owned(),
            allocation_percent: 100,
            start_date: "2030-01-01".to_owned(),
            end_date: "2030-12-31".to_owned(),
            ..Default::default()
        };
        let request = projects::AssignConsultantRequest {
            assignment: Some(assignment),
            ..Default::default()
        };
        let caller = firm.user("kim", &["admin"]).over(channel);
        let answer = caller.projects().assign_consultant(request).await;
        answer.map_or_else(|status| status.code(), |_| Code::Ok)
    };

    let deceived = projects_beside(&owner, |settings| {
        settings.wire.tls_ca_file = Some(foreign);
    });
    let deceived = deceived.await;
    assert_eq!(assign(&deceived).await, Code::Unavailable);
    deceived.stop().await;
    let nameless = projects_beside(&owner, |settings| {
        settings.wire.tls_ca_file = Some(trusted.clone());
    });
    let nameless = nameless.await;
    assert_eq!(assign(&nameless).await, Code::Unavailable);
    nameless.stop().await;
    let right = projects_beside(&owner, |settings| {
        settings.wire.tls_ca_file = Some(trusted.clone());
        settings.wire.tls_client_cert_file = Some(shown.cert);
        settings.wire.tls_client_key_file = Some(shown.key);
    });
    let right = right.await;
    assert_eq!(assign(&right).await, Code::NotFound);
    right.stop().await;
    owner.stop().await;
}
