//! `catalyst tenants credentials`: NATS users of tenants, made with the keys of the data folder.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::ClientOptions;
use super::error::Usage;
use super::output::{Output, note};
use crate::stack::identity::{self, TenantUser};
use crate::up;

/// Issue credentials to a tenant, or list and revoke those that were issued.
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
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what was issued, oldest first.
    List,
    /// Refuse a user for good, and cut its connections.
    Revoke {
        /// Its public key, as listed.
        #[arg(value_name = "PUBLIC-KEY")]
        public_key: String,
    },
}

impl CredentialsOptions {
    pub(super) async fn run(self, client: &ClientOptions, out: &Output) -> anyhow::Result<()> {
        let data_dir = client.data_dir()?;
        let dir = data_dir.join("identity");
        if !dir.is_dir() {
            anyhow::bail!(
                "there are no keys in {}: start `catalyst up` once, or name its folder with --data-dir",
                dir.display()
            );
        }
        match (self.command, self.firm) {
            (Some(Command::List), _) => list(&identity::tenant_users(&dir)?, out),
            (Some(Command::Revoke { public_key }), _) => {
                let nats_url = up::Running::read(&data_dir)?.nats_url;
                identity::revoke_tenant_user(&dir, &nats_url, &public_key).await?;
                note(&format!("{public_key} is revoked"));
                Ok(())
            }
            (None, Some(firm)) => {
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
