//! `catalyst permissions`: who may call what, from the tables that the services themselves decide by.

use kit::permission::{Allows, Role};
use serde_json::json;

use super::output::Output;
use crate::services;

/// How the table is printed.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Print the table of `proto/README.md`.
    #[arg(long)]
    markdown: bool,
}

/// Prints every RPC with its permission and whom it lets in. Needs no server.
pub(crate) fn run(options: &Options, out: &Output) -> anyhow::Result<()> {
    let rpcs = services::ALL
        .iter()
        .flat_map(|definition| definition.permissions);
    if options.markdown {
        let rows = rpcs.map(|rpc| {
            let who = who(rpc.permission.allows);
            format!("| `{}` | `{}` | {who} |\n", rpc.method, rpc.permission.name)
        });
        let head = "| method | permission | who may call |\n| --- | --- | --- |\n".to_owned();
        let table: String = std::iter::once(head).chain(rows).collect();
        return out.line(table.trim_end());
    }
    if out.is_json() {
        for rpc in rpcs {
            out.json(&json!({
                "method": rpc.method,
                "permission": rpc.permission.name,
                "roles": roles(rpc.permission.allows),
                "services": services_of(rpc.permission.allows),
            }))?;
        }
        return Ok(());
    }
    let rows = rpcs.map(|rpc| {
        let short = rpc.method.rsplit('.').next().unwrap_or_default();
        let who = who(rpc.permission.allows);
        vec![short.to_owned(), rpc.permission.name.to_owned(), who]
    });
    out.table(&["method", "permission", "who may"], rows)
}

fn who(allows: Allows) -> String {
    match allows {
        Allows::Services(services) => format!("services: {}", services.join(", ")),
        Allows::Roles(_) | Allows::Operator => roles(allows).join(", "),
    }
}

fn roles(allows: Allows) -> Vec<&'static str> {
    match allows {
        Allows::Roles(roles) => roles.iter().map(|role| role.as_str()).collect(),
        Allows::Operator => vec![Role::PlatformOperator.as_str()],
        Allows::Services(_) => Vec::new(),
    }
}

fn services_of(allows: Allows) -> &'static [&'static str] {
    match allows {
        Allows::Services(services) => services,
        Allows::Roles(_) | Allows::Operator => &[],
    }
}
