//! `catalyst tenants credentials`: NATS users of tenants, made with the keys of the data folder.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use kit::TenantId;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::ClientOptions;
use super::error::Usage;
use super::output::{Output, note};
use crate::stack::identity::{self, TenantUser};
use crate::up;

/// Issue credentials to a tenant, or list, revoke and suspend those that were issued.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct CredentialsOptions {
    #[command(subcommand)]
    command: Option<Command>,
    /// Whom to issue credentials to, by slug or id.
    #[arg(value_name = "TENANT")]
    firm: Option<String>,
    /// What they are for, in free words.
    #[arg(long, default_value = "subscriber")]
    name: String,
    /// Write them into this new file, readable by its owner alone [default: standard output].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what was issued, oldest first.
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Refuse a user for good, and cut its connections.
    Revoke {
        /// Its public key, as listed.
        #[arg(value_name = "PUBLIC-KEY")]
        public_key: String,
        #[command(flatten)]
        place: Place,
    },
    /// Refuse all users of a tenant until it is resumed, and cut their connections.
    Suspend {
        /// Slug or id.
        #[arg(value_name = "TENANT")]
        firm: String,
        #[command(flatten)]
        place: Place,
    },
    /// Let the users of a suspended tenant in again.
    Resume {
        /// Slug or id.
        #[arg(value_name = "TENANT")]
        firm: String,
        #[command(flatten)]
        place: Place,
    },
}

/// Where the keys of the bus are, and the servers that must hear of a change.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Place {
    /// The folder that `catalyst keys` made [default: the keys of the running `catalyst up`].
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// NATS servers [default: those of the running `catalyst up`].
    #[arg(long, env = "CATALYST_NATS_URL", value_name = "URL")]
    nats_url: Option<String>,
}

impl Place {
    fn dir(&self, client: &ClientOptions) -> anyhow::Result<PathBuf> {
        Ok(match &self.keys {
            Some(keys) => keys.join("nats"),
            None => client.data_dir()?.join("identity"),
        })
    }

    fn keys(&self, client: &ClientOptions) -> anyhow::Result<PathBuf> {
        let dir = self.dir(client)?;
        if !dir.is_dir() {
            anyhow::bail!(
                "there are no keys in {}: start `catalyst up` once, name its folder with --data-dir, \
                 or the one of `catalyst keys` with --keys",
                dir.display()
            );
        }
        Ok(dir)
    }

    fn nats_url(&self, client: &ClientOptions) -> anyhow::Result<String> {
        match &self.nats_url {
            Some(url) => Ok(url.clone()),
            None => Ok(up::Running::read(&client.data_dir()?)?.nats_url),
        }
    }

    /// Makes the bus refuse the users of a tenant that was suspended, or take those of one that was resumed.
    ///
    /// Only whoever holds the keys of the bus can. Where they are kept elsewhere, it says what is left to do there.
    pub(super) async fn follow(
        &self,
        client: &ClientOptions,
        tenant: TenantId,
        is_suspended: bool,
    ) -> anyhow::Result<()> {
        if self.keys.is_none() && !self.dir(client)?.is_dir() {
            let verb = if is_suspended { "suspend" } else { "resume" };
            note(&format!(
                "subscribers on NATS are untouched, since the keys of the bus are not here: where they are, \
                 run catalyst tenants credentials {verb} {tenant} --keys DIR --nats-url URL"
            ));
            return Ok(());
        }
        self.set(client, tenant, is_suspended).await
    }

    async fn set(
        &self,
        client: &ClientOptions,
        tenant: TenantId,
        is_suspended: bool,
    ) -> anyhow::Result<()> {
        let (dir, url) = (self.keys(client)?, self.nats_url(client)?);
        if is_suspended {
            identity::suspend_tenant_users(&dir, &url, tenant.uuid()).await?;
            note(&format!("the subscribers of {tenant} are cut off"));
        } else {
            identity::resume_tenant_users(&dir, &url, tenant.uuid()).await?;
            note(&format!("the subscribers of {tenant} may listen again"));
        }
        Ok(())
    }
}

impl CredentialsOptions {
    pub(super) async fn run(self, client: &ClientOptions, out: &Output) -> anyhow::Result<()> {
        match (self.command, self.firm) {
            (Some(Command::List { place }), _) => {
                list(&identity::tenant_users(&place.keys(client)?)?, out)
            }
            (Some(Command::Revoke { public_key, place }), _) => {
                let (dir, url) = (place.keys(client)?, place.nats_url(client)?);
                identity::revoke_tenant_user(&dir, &url, &public_key).await?;
                note(&format!("{public_key} is revoked"));
                Ok(())
            }
            (Some(Command::Suspend { firm, place }), _) => {
                let tenant = client.find_tenant(&firm).await?;
                place.set(client, tenant, true).await
            }
            (Some(Command::Resume { firm, place }), _) => {
                let tenant = client.find_tenant(&firm).await?;
                place.set(client, tenant, false).await
            }
            (None, Some(firm)) => {
                let dir = self.place.keys(client)?;
                let tenant = client.find_tenant(&firm).await?;
                let text = identity::issue_tenant_credentials(&dir, tenant.uuid(), &self.name)?;
                let Some(path) = self.out else {
                    return out.line(&text);
                };
                write_new(&path, &text)?;
                note(&format!(
                    "{} hears the events of {tenant}: catalyst events tail --creds {}",
                    path.display(),
                    path.display()
                ));
                Ok(())
            }
            (None, None) => {
                Err(Usage::new("name the tenant: catalyst tenants credentials TENANT").into())
            }
        }
    }
}

fn list(users: &[TenantUser], out: &Output) -> anyhow::Result<()> {
    if out.is_json() {
        return users.iter().try_for_each(|user| out.json(user));
    }
    let at = |seconds| {
        OffsetDateTime::from_unix_timestamp(seconds)
            .ok()
            .and_then(|at| at.format(&Rfc3339).ok())
            .unwrap_or_default()
    };
    let rows = users.iter().map(|user| {
        vec![
            user.public_key.clone(),
            user.tenant.to_string(),
            user.name.clone(),
            at(user.issued_at),
            user.revoked_at.map(at).unwrap_or_default(),
        ]
    });
    out.table(&["public key", "tenant", "name", "issued", "revoked"], rows)
}

/// Credentials cannot be had again, so no file is overwritten by them.
fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot make the file {}", path.display()))?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}
