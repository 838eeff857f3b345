//! Keys that come and go: what the issuer publishes is in force soon, and nothing that it fails to publish is.

use std::time::{Duration, Instant};

use catalyst::keys::DEVELOPMENT_ISSUER;
use harness::{Answer, Caller, Firm, JwksServer, eventually, host, settings, within};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use kit::ctx::Clock;
use kit::host::Host;
use proto::consultants::v1::ListConsultantsRequest;
use serde_json::json;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

/// A key of the issuer.
struct Key {
    id: &'static str,
    private: EncodingKey,
}

impl Key {
    fn new(id: &'static str) -> Self {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        let der = pair.to_pkcs8v1().expect("its encoding");
        let private = EncodingKey::from_ec_der(der.as_ref());
        Self { id, private }
    }

    fn token(&self, firm: &Firm) -> String {
        self.token_with(firm, &json!({}))
    }

    /// A token whose header says more than it should.
    fn token_with(&self, firm: &Firm, more: &serde_json::Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.id.to_owned());
        header.jku = more["jku"].as_str().map(str::to_owned);
        header.x5u = more["x5u"].as_str().map(str::to_owned);
        let now = Clock::system().now().unix_timestamp();
        let claims = json!({"iss": DEVELOPMENT_ISSUER, "aud": "catalyst", "sub": "kim", "roles": ["admin"],
            "tenant_id": firm.id.to_string(), "iat": now, "exp": now + 600});
        jsonwebtoken::encode(&header, &claims, &self.private).expect("signed")
    }
}

fn set_of(keys: &[&Key]) -> Vec<u8> {
    let keys = keys.iter().map(|key| {
        let mut jwk = Jwk::from_encoding_key(&key.private, Algorithm::ES256).expect("a JWK");
        jwk.common.key_id = Some(key.id.to_owned());
        jwk
    });
    let set = JwkSet {
        keys: keys.collect(),
    };
    serde_json::to_vec(&set).expect("JSON")
}

/// A process that reads the issuer's keys from `source`, and a firm that calls it.
struct Scene {
    host: Host,
    firm: Firm,
    channel: Channel,
}

impl Scene {
    async fn new(source: &str, refresh: u64, refetch: u64) -> Self {
        let firm = Firm::new("Rotating").await;
        let mut settings = settings();
        source.clone_into(&mut settings.identity.auth_jwks);
        settings.identity.jwks_refresh_seconds = refresh;
        settings.identity.jwks_refetch_seconds = refetch;
        let host = host(&settings, &["consultants"]).await.expect("it starts");
        let channel = Endpoint::from_shared(format!("http://{}", host.address))
            .expect("a URL")
            .connect_lazy();
        Self {
            host,
            firm,
            channel,
        }
    }

    async fn code(&self, token: &str) -> Code {
        let caller = Caller::bare(self.firm.id)
            .over(self.channel.clone())
            .with_token(token)
            .with("x-tenant-id", &self.firm.id.to_string());
        let answer = caller
            .consultants()
            .list_consultants(ListConsultantsRequest::default())
            .await;
        answer.map_or_else(|status| status.code(), |_| Code::Ok)
    }

    async fn end(self) {
        drop(self.channel);
        self.host.stop().await;
    }
}

#[tokio::test]
async fn a_published_key_is_accepted_and_a_withdrawn_one_refused_within_the_refresh() {
    let (old, new) = (Key::new("old"), Key::new("new"));
    let server = JwksServer::start(Answer::Body(set_of(&[&old]))).await;
    let scene = Scene::new(&server.url, 1, 50).await;
    let stolen = old.token(&scene.firm);
    assert_eq!(scene.code(&stolen).await, Code::Ok);
    assert_eq!(
        scene.code(&new.token(&scene.firm)).await,
        Code::Unauthenticated
    );

    server.answers(Answer::Body(set_of(&[&old, &new])));
    let since = Instant::now();
    eventually("the new key is accepted", async || {
        (scene.code(&new.token(&scene.firm)).await == Code::Ok).then_some(())
    })
    .await;
    assert_eq!(scene.code(&stolen).await, Code::Ok, "both are published");
    server.answers(Answer::Body(set_of(&[&new])));
    eventually(
        "the old key is refused, for a remembered token too",
        async || (scene.code(&stolen).await == Code::Unauthenticated).then_some(()),
    )
    .await;
    // Two periods of a second, with room for a busy machine.
    assert!(since.elapsed() < Duration::from_secs(10));

    server.answers(Answer::Body(b"{\"keys\": []}".to_vec()));
    eventually("withdrawing the last key counts", async || {
        (scene.code(&new.token(&scene.firm)).await == Code::Unauthenticated).then_some(())
    })
    .await;
    scene.end().await;
}

#[tokio::test]
async fn the_documented_periods_keep_the_promise_of_a_minute() {
    let settings = settings().identity;
    // The answer of a source may take five seconds, for each of two sets.
    assert!(settings.jwks_refresh_seconds + 2 * 5 <= 60);
    for (name, value) in [
        ("CATALYST_JWKS_REFRESH_SECONDS", "51"),
        ("CATALYST_JWKS_REFETCH_SECONDS", "0"),
    ] {
        let refused = crate::binary::program::serve_command("consultants", &[(name, value)])
            .output()
            .expect("the program runs");
        assert_eq!(refused.status.code(), Some(64), "{name}={value}");
    }
}

#[tokio::test]
async fn an_unknown_key_has_the_set_read_again_but_a_flood_of_them_once_a_period() {
    let (known, new) = (Key::new("known"), Key::new("new"));
    let server = JwksServer::start(Answer::Body(set_of(&[&known]))).await;
    let scene = Scene::new(&server.url, 50, 3).await;
    assert_eq!(server.hits(), 1);
    server.answers(Answer::Body(set_of(&[&known, &new])));
    // The period since the first read must pass before a token can set off another.
    let accepted = within(Duration::from_secs(8), async || {
        (scene.code(&new.token(&scene.firm)).await == Code::Ok).then_some(())
    });
    assert!(
        accepted.await.is_some(),
        "the new key is accepted without a refresh"
    );
    assert_eq!(server.hits(), 2);

    let since = Instant::now();
    let strangers: Vec<Key> = ["a", "../../x", "'; --", "http://127.0.0.1:1/k", ""]
        .map(Key::new)
        .into();
    let mut calls = 0;
    while since.elapsed() < Duration::from_secs(4) {
        for stranger in &strangers {
            let token = stranger.token(&scene.firm);
            assert_eq!(scene.code(&token).await, Code::Unauthenticated);
            calls += 1;
        }
    }
    let periods = 1 + since.elapsed().as_secs() / 3;
    let reads = server.hits() - 2;
    assert!(calls > 20, "{calls} calls are no flood");
    assert!(
        reads as u64 <= periods && reads >= 1,
        "{calls} calls set off {reads} reads in {periods} periods"
    );
    scene.end().await;
}

#[tokio::test]
async fn an_issuer_that_is_away_or_talks_nonsense_leaves_the_last_good_set_in_force() {
    let (known, other) = (Key::new("known"), Key::new("other"));
    let stranger = JwksServer::start(Answer::Body(set_of(&[&other]))).await;
    let server = JwksServer::start(Answer::Body(set_of(&[&known]))).await;
    let scene = Scene::new(&server.url, 1, 1).await;
    let good = known.token(&scene.firm);
    assert_eq!(scene.code(&good).await, Code::Ok);

    let mut oversized = set_of(&[&other]);
    oversized.extend(vec![b' '; 1024 * 1024]);
    for answer in [
        Answer::Status(500, set_of(&[&other])),
        Answer::Status(204, Vec::new()),
        Answer::Body(Vec::new()),
        Answer::Body(b"<html>sign in</html>".to_vec()),
        Answer::Body(
            b"{\"keys\": [{\"kty\": \"oct\", \"k\": \"AAAA\", \"kid\": \"known\"}]}".to_vec(),
        ),
        Answer::Body(oversized),
        Answer::Redirect(stranger.url.clone()),
    ] {
        let said = format!("{answer:.80?}");
        server.answers(answer);
        let asked = server.hits();
        eventually("it was asked twice", async || {
            (server.hits() >= asked + 2).then_some(())
        })
        .await;
        assert_eq!(scene.code(&good).await, Code::Ok, "{said}");
        let foreign = other.token(&scene.firm);
        assert_eq!(scene.code(&foreign).await, Code::Unauthenticated, "{said}");
    }
    assert_eq!(stranger.hits(), 0, "a redirect was followed");

    // A source that says nothing at all holds up neither known keys nor, for long, unknown ones.
    server.answers(Answer::Silence);
    let asked = server.hits();
    eventually("it was asked in vain", async || {
        (server.hits() > asked).then_some(())
    })
    .await;
    let since = Instant::now();
    assert_eq!(scene.code(&good).await, Code::Ok);
    let foreign = other.token(&scene.firm);
    for _ in 0..4 {
        assert_eq!(scene.code(&foreign).await, Code::Unauthenticated);
    }
    assert!(
        since.elapsed() < Duration::from_secs(7),
        "{:?}",
        since.elapsed()
    );

    server.answers(Answer::Body(set_of(&[&other])));
    let back = within(Duration::from_secs(20), async || {
        (scene.code(&other.token(&scene.firm)).await == Code::Ok).then_some(())
    });
    assert!(back.await.is_some(), "the issuer that is back is not heard");
    assert_eq!(scene.code(&good).await, Code::Unauthenticated);
    scene.end().await;
}

#[tokio::test]
async fn a_file_of_keys_is_read_again_and_a_damaged_one_is_not_believed() {
    let (old, new) = (Key::new("old"), Key::new("new"));
    let folder = harness::temporary_folder().expect("a folder");
    let path = folder.join("jwks.json");
    std::fs::write(&path, set_of(&[&old])).expect("written");
    let scene = Scene::new(&path.to_string_lossy(), 1, 1).await;
    let token = old.token(&scene.firm);
    assert_eq!(scene.code(&token).await, Code::Ok);
    std::fs::write(&path, b"{").expect("written");
    // An unknown key makes it be read before the refresh does.
    assert_eq!(
        scene.code(&new.token(&scene.firm)).await,
        Code::Unauthenticated
    );
    assert_eq!(scene.code(&token).await, Code::Ok);
    std::fs::write(&path, set_of(&[&new])).expect("written");
    eventually("the new file counts", async || {
        (scene.code(&new.token(&scene.firm)).await == Code::Ok).then_some(())
    })
    .await;
    assert_eq!(scene.code(&token).await, Code::Unauthenticated);
    scene.end().await;
    std::fs::remove_dir_all(folder).expect("removed");
}

#[tokio::test]
async fn nothing_that_a_token_names_is_ever_fetched() {
    let (known, own) = (Key::new("known"), Key::new("mine"));
    let attacker = JwksServer::start(Answer::Body(set_of(&[&own]))).await;
    let server = JwksServer::start(Answer::Body(set_of(&[&known]))).await;
    let scene = Scene::new(&server.url, 1, 1).await;
    for name in ["jku", "x5u"] {
        for key in [&own, &known] {
            let token = key.token_with(&scene.firm, &json!({name: attacker.url}));
            assert_eq!(scene.code(&token).await, Code::Unauthenticated, "{name}");
        }
    }
    let asked = server.hits();
    eventually("the issuer was asked again", async || {
        (server.hits() > asked).then_some(())
    })
    .await;
    assert_eq!(attacker.hits(), 0);
    scene.end().await;
}
