//! Users of tenants: each hears the events of one tenant and can say nothing.
//! Each is written down when it is issued, so that it can be found and revoked; so is each tenant that is suspended,
//! whose users are refused until it is resumed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nkeys::{KeyPair, KeyPairType};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Identities, claims};
use crate::stack::files;

/// The tenants whose users are refused for now.
const SUSPENDED: &str = "suspended-tenants.json";

/// A user that a tenant was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantUser {
    /// The user's NATS public key, by which it is revoked.
    pub public_key: String,
    /// The tenant whose events it hears.
    pub tenant: Uuid,
    /// What the credentials were issued for, in free words.
    pub name: String,
    /// Seconds since 1970.
    pub issued_at: i64,
    /// Seconds since 1970; credentials issued before are refused.
    pub revoked_at: Option<i64>,
}

/// Every user ever issued to a tenant, oldest first.
pub fn tenant_users(dir: &Path) -> anyhow::Result<Vec<TenantUser>> {
    read(dir)
}

/// Makes a user that hears `catalyst.<tenant>.>` and nothing else; returns the text of its `.creds` file.
///
/// The text is kept nowhere: it cannot be had again.
pub fn issue_tenant_credentials(dir: &Path, tenant: Uuid, name: &str) -> anyhow::Result<String> {
    let _lock = files::wait_for_folder(dir)?;
    if suspended(dir)?.contains(&tenant) {
        bail!("the subscribers of {tenant} are suspended: resume them first");
    }
    let identities = Identities::with_keys(dir)?;
    let user = KeyPair::new_from_raw(KeyPairType::User, files::random_bytes()?)
        .context("cannot make a user's key")?;
    let jwt = claims::sign(
        &identities.tenants_signing,
        &user.public_key(),
        name,
        // A scoped user that carries limits or permissions of its own is refused by the server.
        &json!({
            "type": "user",
            "version": 2,
            "issuer_account": identities.tenants.public_key(),
            // The server would honor a wildcard here; a UUID has none.
            "tags": [format!("tenant:{tenant}")],
        }),
    )?;
    let mut users = read(dir)?;
    users.push(TenantUser {
        public_key: user.public_key(),
        tenant,
        name: name.to_owned(),
        issued_at: claims::now(),
        revoked_at: None,
    });
    write(dir, &users)?;
    claims::credentials(&jwt, &user)
}

/// Revokes a user for good and cuts its connections.
///
/// The revocation is written down first: if the server cannot be told, call again, or it learns at its next start.
pub async fn revoke_tenant_user(
    dir: &Path,
    nats_url: &str,
    public_key: &str,
) -> anyhow::Result<()> {
    let push = {
        let _lock = files::wait_for_folder(dir)?;
        let mut users = read(dir)?;
        let Some(user) = users.iter_mut().find(|user| user.public_key == public_key) else {
            bail!("no tenant was given a user {public_key}");
        };
        user.revoked_at.get_or_insert_with(claims::now);
        write(dir, &users)?;
        Push::prepare(dir)?
    };
    push.to(nats_url).await
}

/// Refuses all users of a tenant and cuts their connections until it is resumed; those that were revoked stay so.
///
/// As with a revocation: if the server cannot be told, call again, or it learns at its next start.
pub async fn suspend_tenant_users(dir: &Path, nats_url: &str, tenant: Uuid) -> anyhow::Result<()> {
    set_suspended(dir, tenant, true)?.to(nats_url).await
}

/// Lets the users of a suspended tenant in again, with the credentials that they have.
pub async fn resume_tenant_users(dir: &Path, nats_url: &str, tenant: Uuid) -> anyhow::Result<()> {
    set_suspended(dir, tenant, false)?.to(nats_url).await
}

fn set_suspended(dir: &Path, tenant: Uuid, is_suspended: bool) -> anyhow::Result<Push> {
    let _lock = files::wait_for_folder(dir)?;
    let mut tenants = suspended(dir)?;
    if is_suspended {
        tenants.insert(tenant);
    } else {
        tenants.remove(&tenant);
    }
    files::write_secret(
        &dir.join(SUSPENDED),
        &serde_json::to_string_pretty(&tenants)?,
    )?;
    Push::prepare(dir)
}

/// The token of the tenants' account as it must be, on its way to the servers.
struct Push {
    jwt: String,
    credentials: PathBuf,
}

impl Push {
    /// Whoever calls holds the folder.
    fn prepare(dir: &Path) -> anyhow::Result<Self> {
        let mut identities = Identities::with_keys(dir)?;
        Ok(Self {
            jwt: identities.issue_tenants_account(dir)?,
            credentials: identities.credentials_dir.join("sys.creds"),
        })
    }

    async fn to(self, nats_url: &str) -> anyhow::Result<()> {
        let servers: Vec<&str> = nats_url.split(',').map(str::trim).collect();
        let client = async_nats::ConnectOptions::with_credentials_file(&self.credentials)
            .await
            .with_context(|| format!("cannot read {}", self.credentials.display()))?
            .custom_inbox_prefix("_INBOX_sys")
            .connect(servers)
            .await
            .context("the change is noted, but the NATS server cannot be reached: call again")?;
        let answer = client
            .request("$SYS.REQ.CLAIMS.UPDATE", self.jwt.into())
            .await
            .context("the change is noted, but the NATS server does not answer: call again")?;
        let answer: Value = serde_json::from_slice(&answer.payload)?;
        if let Some(error) = answer.get("error") {
            bail!("the NATS server refuses the change: {error}");
        }
        Ok(())
    }
}

/// Whose credentials the account refuses: for each user, those that were issued until that second.
pub(super) fn revocations(dir: &Path) -> anyhow::Result<BTreeMap<String, i64>> {
    let suspended = suspended(dir)?;
    let users = read(dir)?.into_iter().filter_map(|user| {
        let until = if suspended.contains(&user.tenant) {
            Some(claims::now())
        } else {
            user.revoked_at
        };
        Some((user.public_key, until?))
    });
    Ok(users.collect())
}

fn suspended(dir: &Path) -> anyhow::Result<BTreeSet<Uuid>> {
    let file = dir.join(SUSPENDED);
    let Some(text) = files::read_if_present(&file)? else {
        return Ok(BTreeSet::new());
    };
    serde_json::from_str(&text).with_context(|| format!("{} is damaged", file.display()))
}

fn read(dir: &Path) -> anyhow::Result<Vec<TenantUser>> {
    let file = dir.join("tenant-users.json");
    let Some(text) = files::read_if_present(&file)? else {
        return Ok(Vec::new());
    };
    serde_json::from_str(&text).with_context(|| format!("{} is damaged", file.display()))
}

fn write(dir: &Path, users: &[TenantUser]) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(users)?;
    files::write_secret(&dir.join("tenant-users.json"), &text)
}
