//! Secrets of a deployment: database passwords, workload keys, the page-token key, the development issuer.
//!
//! Made once and kept; a file that exists is never replaced. Every file is readable by its owner alone.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey};
use kit::host::Definition;

/// The `iss` of tokens of the development issuer.
pub const DEVELOPMENT_ISSUER: &str = "catalyst-development";
/// The key id of the development issuer's only key.
const DEVELOPMENT_KEY: &str = "development";

/// The key id in the JWKS of the key that signs checkpoints. Verifiers compute their own.
const CHECKPOINT_KEY: &str = "audit-checkpoint";

/// Where each secret lies.
#[derive(Clone, Debug)]
pub struct Keys {
    dir: PathBuf,
}

impl Keys {
    /// The keys under `dir`; makes those that are missing.
    pub fn load_or_create(dir: &Path, definitions: &[Definition]) -> anyhow::Result<Self> {
        let keys = Self {
            dir: dir.to_owned(),
        };
        for folder in [
            dir,
            &keys.password_dir(),
            &keys.workload_dir(),
            &keys.issuer_dir(),
            &keys.audit_dir(),
        ] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        for definition in definitions {
            let schema = definition.schema;
            let own = ["owner", "app", "relay"].map(|suffix| format!("{schema}_{suffix}"));
            let exempt = definition
                .exempt_roles
                .iter()
                .map(|role| (*role).to_owned());
            for role in own.into_iter().chain(exempt) {
                write_new(&keys.password_dir().join(role), || Ok(random_text()))?;
            }
        }
        write_new(&keys.page_token_key(), || Ok(random_text()))?;
        write_new(&keys.webhook_secret(), || {
            let bytes = random();
            Ok(format!("whsec_{}", BASE64.encode(&bytes)))
        })?;

        let mut workloads = Vec::new();
        for definition in definitions {
            let path = keys.workload_dir().join(format!("{}.pem", definition.name));
            write_new(&path, private_key)?;
            workloads.push((path, definition.name));
        }
        write_jwks(&keys.workload_jwks(), &workloads)?;
        write_new(&keys.checkpoint_key(), private_key)?;
        write_jwks(
            &keys.checkpoint_jwks(),
            &[(keys.checkpoint_key(), CHECKPOINT_KEY)],
        )?;
        let issuer = keys.issuer_dir().join("key.pem");
        write_new(&issuer, private_key)?;
        write_jwks(&keys.issuer_jwks(), &[(issuer, DEVELOPMENT_KEY)])?;
        Ok(keys)
    }

    /// The keys under `dir` as they are.
    pub fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    /// One file per database role.
    pub fn password_dir(&self) -> PathBuf {
        self.dir.join("postgres")
    }

    /// One private key per service.
    pub fn workload_dir(&self) -> PathBuf {
        self.dir.join("workload")
    }

    /// The public keys of all services.
    pub fn workload_jwks(&self) -> PathBuf {
        self.dir.join("workload").join("jwks.json")
    }

    /// The key of page tokens.
    pub fn page_token_key(&self) -> PathBuf {
        self.dir.join("page-token.key")
    }

    /// The secret that webhook deliveries are signed with, in the form of Standard Webhooks.
    pub fn webhook_secret(&self) -> PathBuf {
        self.dir.join("alert-webhook.secret")
    }

    fn audit_dir(&self) -> PathBuf {
        self.dir.join("audit")
    }

    /// The key that signs checkpoints of the audit logs.
    pub fn checkpoint_key(&self) -> PathBuf {
        self.audit_dir().join("checkpoint.pem")
    }

    /// Its public half, for whoever verifies them.
    pub fn checkpoint_jwks(&self) -> PathBuf {
        self.audit_dir().join("jwks.json")
    }

    fn issuer_dir(&self) -> PathBuf {
        self.dir.join("issuer")
    }

    /// The development issuer's public keys.
    pub fn issuer_jwks(&self) -> PathBuf {
        self.issuer_dir().join("jwks.json")
    }

    /// The development issuer; elsewhere there is none, and tokens come from the deployment's own issuer.
    pub fn development_issuer(&self) -> anyhow::Result<Issuer> {
        let path = self.issuer_dir().join("key.pem");
        let pem = fs::read(&path).with_context(|| {
            format!(
                "there is no development issuer at {}: tokens are made only beside `catalyst up`; \
                 name its folder with --data-dir, or bring a token of your issuer in CATALYST_TOKEN",
                path.display()
            )
        })?;
        let key = EncodingKey::from_ec_pem(&pem)
            .with_context(|| format!("{} is no P-256 private key", path.display()))?;
        Ok(Issuer { key })
    }
}

/// Makes user tokens for development and tests.
#[derive(Clone)]
pub struct Issuer {
    key: EncodingKey,
}

impl Issuer {
    /// An issuer of the given key, for tests with several.
    pub fn new(key: EncodingKey) -> Self {
        Self { key }
    }

    /// A token of `subject` in `tenant` with `roles`, good for `seconds` from `now`.
    pub fn token(
        &self,
        subject: &str,
        tenant: kit::TenantId,
        roles: &[&str],
        now: time::OffsetDateTime,
        seconds: i64,
    ) -> anyhow::Result<String> {
        let iat = now.unix_timestamp();
        self.sign(&serde_json::json!({
            "iss": DEVELOPMENT_ISSUER,
            "aud": "catalyst",
            "sub": subject,
            "tenant_id": tenant.to_string(),
            "roles": roles,
            "iat": iat,
            "exp": iat + seconds,
        }))
    }

    /// Signs whatever claims it is given.
    pub fn sign(&self, claims: &serde_json::Value) -> anyhow::Result<String> {
        let mut header = jsonwebtoken::Header::new(Algorithm::ES256);
        header.kid = Some(DEVELOPMENT_KEY.to_owned());
        Ok(jsonwebtoken::encode(&header, claims, &self.key)?)
    }
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    // Fails only where the system has no randomness at all; then the key generation below fails as well.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    bytes
}

fn random_text() -> String {
    BASE64URL_NOPAD.encode(&random())
}

fn private_key() -> anyhow::Result<String> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
    let der = pair.to_pkcs8v1()?;
    let body = BASE64.encode(der.as_ref());
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    for line in body.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    Ok(pem)
}

/// Public halves are derived, so this file is written anew each time.
fn write_jwks(path: &Path, keys: &[(PathBuf, &str)]) -> anyhow::Result<()> {
    let mut set = JwkSet { keys: Vec::new() };
    for (private, id) in keys {
        let key = EncodingKey::from_ec_pem(&fs::read(private)?)
            .with_context(|| format!("{} is no P-256 private key", private.display()))?;
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256)?;
        jwk.common.key_id = Some((*id).to_owned());
        set.keys.push(jwk);
    }
    let partial = path.with_added_extension("partial");
    fs::write(&partial, serde_json::to_vec_pretty(&set)?)
        .with_context(|| format!("cannot write {}", partial.display()))?;
    fs::rename(&partial, path).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a secret unless the file is there; whole or not at all.
fn write_new(path: &Path, secret: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let partial = path.with_added_extension("partial");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&partial)
        .with_context(|| format!("cannot write {}", partial.display()))?;
    file.write_all(secret()?.as_bytes())?;
    file.sync_all()?;
    fs::rename(&partial, path).with_context(|| format!("cannot write {}", path.display()))
}
