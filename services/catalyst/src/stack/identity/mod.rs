//! The identities of the bus in NATS's operator mode: one operator, three accounts, one user for each service.
//! Keys are made once; every token is made anew from this code at each start, so the code is what holds.

mod claims;
mod permissions;
mod tenant_users;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nkeys::{KeyPair, KeyPairType};
use serde_json::{Value, json};

use super::files;
use permissions::Permissions;

pub use tenant_users::{
    TenantUser, issue_tenant_credentials, resume_tenant_users, revoke_tenant_user,
    suspend_tenant_users, tenant_users,
};

/// The keys and tokens of one deployment.
pub struct Identities {
    credentials_dir: PathBuf,
    operator: KeyPair,
    system: KeyPair,
    services: KeyPair,
    tenants: KeyPair,
    /// Signs tenants' users, and can give them no other rights than its scope.
    tenants_signing: KeyPair,
    operator_jwt: String,
    accounts: BTreeMap<String, String>,
}

impl Identities {
    /// Reads the keys in `dir`, makes those that are missing, and writes new tokens:
    /// `operator.jwt`, `accounts/*.jwt` and `credentials/<user>.creds`.
    ///
    /// The seeds in `keys` are the deployment's deepest secret: whoever holds them can make any user.
    pub fn load_or_create(dir: &Path) -> anyhow::Result<Self> {
        let credentials_dir = dir.join("credentials");
        for folder in [
            dir,
            &dir.join("keys"),
            &dir.join("accounts"),
            &credentials_dir,
        ] {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        fs::set_permissions(dir.join("keys"), fs::Permissions::from_mode(0o700))?;
        fs::set_permissions(&credentials_dir, fs::Permissions::from_mode(0o700))?;
        let _lock = files::wait_for_folder(dir)?;
        let mut identities = Self::with_keys(dir)?;
        identities.issue(dir)?;
        Ok(identities)
    }

    /// The token of the operator, for the server's configuration.
    pub fn operator_jwt(&self) -> &str {
        &self.operator_jwt
    }

    /// The public key of the system account.
    pub fn system_account(&self) -> String {
        self.system.public_key()
    }

    /// The accounts' tokens by public key, for the server's `resolver_preload`.
    pub fn account_jwts(&self) -> &BTreeMap<String, String> {
        &self.accounts
    }

    /// What a server's configuration says of operator, accounts and resolver; `accounts_dir` is the server's own.
    pub fn server_settings(&self, accounts_dir: &str) -> serde_json::Value {
        serde_json::json!({
            "operator": self.operator_jwt(),
            "system_account": self.system_account(),
            "resolver": { "type": "full", "dir": accounts_dir, "allow_delete": false },
            "resolver_preload": self.account_jwts(),
        })
    }

    /// The folder of `<user>.creds`: one for each service, `audit-checkpoint`, `migrator`, `operator`, `sys` and
    /// `auth-watch`.
    pub fn credentials_dir(&self) -> &Path {
        &self.credentials_dir
    }

    fn with_keys(dir: &Path) -> anyhow::Result<Self> {
        let account = |name| key(dir, name, KeyPairType::Account);
        Ok(Self {
            credentials_dir: dir.join("credentials"),
            operator: key(dir, "operator", KeyPairType::Operator)?,
            system: account("account-sys")?,
            services: account("account-catalyst")?,
            tenants: account("account-tenants")?,
            tenants_signing: account("tenants-signing")?,
            operator_jwt: String::new(),
            accounts: BTreeMap::new(),
        })
    }

    fn issue(&mut self, dir: &Path) -> anyhow::Result<()> {
        let operator = self.operator.public_key();
        self.operator_jwt = claims::sign(
            &self.operator,
            &operator,
            "catalyst",
            &json!({
                "type": "operator",
                "version": 2,
                "system_account": self.system.public_key(),
            }),
        )?;
        files::write_public(&dir.join("operator.jwt"), &self.operator_jwt)?;
        let system = account(0, &json!({}));
        self.issue_account(dir, "SYS", &self.system.public_key(), &system)?;
        let services = account(
            -1,
            &json!({
                "exports": [{ "name": "events", "subject": "catalyst.>", "type": "stream" }],
            }),
        );
        self.issue_account(dir, "CATALYST", &self.services.public_key(), &services)?;
        self.issue_tenants_account(dir)?;

        for (name, permissions) in permissions::of_system() {
            self.issue_user(dir, name, &self.system, &permissions)?;
        }
        for (name, permissions) in permissions::users() {
            self.issue_user(dir, name, &self.services, &permissions)?;
        }
        Ok(())
    }

    /// Makes the token of the tenants' account, with all revocations, and returns it.
    fn issue_tenants_account(&mut self, dir: &Path) -> anyhow::Result<String> {
        let revocations = tenant_users::revocations(dir)?;
        let tenants = account(
            0,
            &json!({
                "imports": [{
                    "name": "events",
                    "subject": "catalyst.>",
                    "account": self.services.public_key(),
                    "type": "stream",
                }],
                "signing_keys": [{
                    "kind": "user_scope",
                    "key": self.tenants_signing.public_key(),
                    "role": "tenant",
                    "template": {
                        // A tenant only listens. With any right to publish it could have JetStream
                        // answer to a subject that it may not publish to itself.
                        "pub": { "deny": [">"] },
                        "sub": { "allow": ["catalyst.{{tag(tenant)}}.>"] },
                        "subs": -1,
                        "data": -1,
                        "payload": -1,
                    },
                }],
                "revocations": revocations,
            }),
        );
        self.issue_account(dir, "TENANTS", &self.tenants.public_key(), &tenants)
    }

    fn issue_account(
        &mut self,
        dir: &Path,
        name: &str,
        public_key: &str,
        nats: &Value,
    ) -> anyhow::Result<String> {
        let file = dir.join("accounts").join(format!("{name}.jwt"));
        // Later than the one before: of two tokens of one second the server may keep either, and with it an account
        // without its latest revocation, which its configuration hands to it anew at each start.
        let before = files::read_if_present(&file)?.and_then(|jwt| claims::issued_at(&jwt));
        let now = claims::now().max(before.map_or(0, |before| before + 1));
        let jwt = claims::sign_as_of(now, &self.operator, public_key, name, nats)?;
        files::write_public(&file, &jwt)?;
        self.accounts.insert(public_key.to_owned(), jwt.clone());
        Ok(jwt)
    }

    fn issue_user(
        &self,
        dir: &Path,
        name: &str,
        account: &KeyPair,
        permissions: &Permissions,
    ) -> anyhow::Result<()> {
        let user = key(dir, &format!("user-{name}"), KeyPairType::User)?;
        let jwt = claims::sign(account, &user.public_key(), name, &permissions.claims())?;
        let file = self.credentials_dir.join(format!("{name}.creds"));
        files::write_secret(&file, &claims::credentials(&jwt, &user)?)
    }
}

/// The claims of an account; `jetstream` is its limit of storage and streams, -1 for none, 0 for no JetStream.
fn account(jetstream: i64, more: &Value) -> Value {
    let mut nats = json!({
        "type": "account",
        "version": 2,
        "limits": {
            "subs": -1,
            "data": -1,
            "payload": -1,
            "imports": -1,
            "exports": -1,
            "wildcards": true,
            "conn": -1,
            "leaf": 0,
            "mem_storage": jetstream,
            "disk_storage": jetstream,
            "streams": jetstream,
            "consumer": jetstream,
        },
    });
    if let (Some(nats), Some(more)) = (nats.as_object_mut(), more.as_object()) {
        nats.extend(more.clone());
    }
    nats
}

/// Reads a key, or makes it.
fn key(dir: &Path, name: &str, kind: KeyPairType) -> anyhow::Result<KeyPair> {
    let file = dir.join("keys").join(format!("{name}.nk"));
    if let Some(seed) = files::read_if_present(&file)? {
        return KeyPair::from_seed(seed.trim())
            .with_context(|| format!("{} holds no NATS key", file.display()));
    }
    let key = KeyPair::new_from_raw(kind, files::random_bytes()?)
        .with_context(|| format!("cannot make the key {name}"))?;
    files::write_secret(&file, &key.seed().context("a new key has a seed")?)?;
    Ok(key)
}
