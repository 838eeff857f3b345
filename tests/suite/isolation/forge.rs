//! Tokens of any header, body and signature, and what becomes of them: the answer, and the reason on record.

use std::collections::BTreeMap;
use std::net::IpAddr;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, KeyPair as _,
};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use harness::{Caller, Probe, channel_from, own_source, probe, refusals_of, world};
use proto::common::v1::AuthenticationFailure as Failure;
use serde_json::Value;
use tonic::Code;

use super::cases::{CASES, Case, Fixture};

/// A private key of the deployment in an attacker's hands, who may sign whatever he likes.
pub(super) struct Key {
    der: Vec<u8>,
}

impl Key {
    /// The key of the development issuer.
    pub(super) fn of_issuer() -> Self {
        let folder = world().issuer_jwks.parent().expect("the issuer's folder");
        Self::read(&folder.join("key.pem"))
    }

    /// The key of a service.
    pub(super) fn of_service(name: &str) -> Self {
        Self::read(&world().workload_dir.join(format!("{name}.pem")))
    }

    fn read(path: &std::path::Path) -> Self {
        let pem = std::fs::read_to_string(path).expect("a key");
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        Self {
            der: BASE64.decode(body.as_bytes()).expect("base64"),
        }
    }

    fn signs(&self, algorithm: &'static EcdsaSigningAlgorithm, text: &str) -> Vec<u8> {
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, &self.der).expect("a P-256 key");
        let signature = pair.sign(&SystemRandom::new(), text.as_bytes());
        signature.expect("a signature").as_ref().to_vec()
    }

    /// The public half as a point of the curve.
    pub(super) fn public_point(&self) -> Vec<u8> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.der);
        let pair = pair.expect("a P-256 key");
        pair.public_key().as_ref().to_vec()
    }

    /// A token of exactly this header and body, with the signature that ES256 wants.
    pub(super) fn token(&self, header: &str, body: &str) -> String {
        let signed = unsigned(header, body);
        let signature = self.signs(&ECDSA_P256_SHA256_FIXED_SIGNING, &signed);
        with_signature(&signed, &signature)
    }

    /// The same with the signature in DER, as other protocols have it.
    pub(super) fn token_in_der(&self, header: &str, body: &str) -> String {
        let signed = unsigned(header, body);
        let signature = self.signs(&ECDSA_P256_SHA256_ASN1_SIGNING, &signed);
        with_signature(&signed, &signature)
    }
}

/// Header and body as they are signed.
pub(super) fn unsigned(header: &str, body: &str) -> String {
    let [header, body] = [header, body].map(|part| BASE64URL_NOPAD.encode(part.as_bytes()));
    format!("{header}.{body}")
}

pub(super) fn with_signature(signed: &str, signature: &[u8]) -> String {
    format!("{signed}.{}", BASE64URL_NOPAD.encode(signature))
}

/// The text of claims with some of them replaced; null stands for itself.
pub(super) fn changed(claims: &Value, name: &str, value: Value) -> String {
    let mut claims = claims.clone();
    claims[name] = value;
    claims.to_string()
}

/// The text of claims without one of them.
pub(super) fn without(claims: &Value, name: &str) -> String {
    let mut claims = claims.clone();
    claims.as_object_mut().expect("an object").remove(name);
    claims.to_string()
}

/// Someone who tries tokens on one method, from an address of his own.
pub(super) struct Attacker {
    own: Fixture,
    case: &'static Case,
    caller: Caller,
    source: IpAddr,
    /// What a call without any token is answered.
    constant: Probe,
    expected: BTreeMap<Failure, i64>,
}

impl Attacker {
    /// Tries on the method whose name ends so.
    pub(super) async fn on(method: &str) -> Self {
        let own = Fixture::new("Attacked").await;
        let case = CASES
            .iter()
            .find(|case| case.method.ends_with(method))
            .expect("a case");
        let source = own_source();
        let caller = Caller::bare(own.firm.id)
            .over(channel_from(source))
            .with("x-tenant-id", &own.firm.id.to_string());
        let constant = probe(&caller, case.method, own.request(case, None)).await;
        assert_eq!(constant.code, Code::Unauthenticated);
        Self {
            own,
            case,
            caller,
            source,
            constant,
            expected: BTreeMap::from([(Failure::Missing, 1)]),
        }
    }

    /// The tenant that he is after.
    pub(super) fn tenant(&self) -> kit::TenantId {
        self.own.firm.id
    }

    /// Without a token yet.
    pub(super) fn caller(&self) -> Caller {
        self.caller.clone()
    }

    pub(super) async fn answer(&self, caller: &Caller) -> Probe {
        probe(caller, self.case.method, self.own.request(self.case, None)).await
    }

    /// The token is answered as no token is, byte for byte.
    pub(super) async fn fails(&mut self, attack: &str, reason: Failure, token: &str) {
        let caller = self.caller().with_token(token);
        self.fails_as(attack, reason, &caller).await;
    }

    /// As [`Attacker::fails`], with metadata of any form.
    pub(super) async fn fails_as(&mut self, attack: &str, reason: Failure, caller: &Caller) {
        let answer = self.answer(caller).await;
        assert_eq!(answer, self.constant, "{attack}");
        *self.expected.entry(reason).or_default() += 1;
    }

    /// Each attempt is in the audit trail under its reason, once.
    pub(super) async fn finds_all_on_record(self) {
        let mut recorded = BTreeMap::new();
        let within = std::time::Duration::from_secs(20);
        let complete = harness::within(within, async || {
            recorded = refusals_of(self.source).await;
            (recorded == self.expected).then_some(())
        });
        complete.await;
        assert_eq!(recorded, self.expected);
    }
}
