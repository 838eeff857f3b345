//! The sessions that are connected to the database now, by the names that the server shows to every role.
//!
//! What they run is hidden from other roles, so a session is judged by who it is and what it calls itself.
//! Invariant: a role that is not listed as serving never goes unmentioned.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;

use super::catalog::CATALOG;
use super::{Expected, Finding, Severity};

/// What this module decides.
pub(super) const RULES: [(&str, Severity); 3] = [
    ("live-owner", Severity::Error),
    ("live-disguised", Severity::Error),
    ("live-outsider", Severity::Warning),
];

const SESSIONS: &str = "
select a.usename::text as role, a.application_name as calls_itself, count(*) as count,
       a.usename in (select owner from schema_rule) as owns,
       a.application_name in (select role from running) as disguised,
       coalesce((select rolsuper or rolbypassrls from pg_roles r where r.oid = a.usesysid), false) as unbound
from pg_stat_activity a
where a.datname = current_database() and a.pid <> pg_backend_pid() and a.usename is not null
  and a.usename not in (select role from running)
group by a.usename, a.application_name, a.usesysid
order by 1, 2";

#[derive(sqlx::FromRow)]
struct Sessions {
    role: String,
    calls_itself: Option<String>,
    count: i64,
    owns: bool,
    disguised: Option<bool>,
    unbound: bool,
}

/// Finds the sessions of this database that no listed role explains. Other sessions may come and go: a migration that is
/// running shows as the owner's.
pub async fn attest_live(
    connection: &mut PgConnection,
    expected: &Expected,
) -> Result<Vec<Finding>, sqlx::Error> {
    let found: Vec<Sessions> = sqlx::query_as(AssertSqlSafe(format!("{CATALOG}{SESSIONS}")))
        .bind(Json(expected))
        .persistent(false)
        .fetch_all(connection)
        .await?;
    Ok(found.into_iter().map(Sessions::departure).collect())
}

impl Sessions {
    fn departure(self) -> Finding {
        let [owner, disguised, outsider] = RULES;
        let (rule, severity) = match (self.disguised, self.owns) {
            (Some(true), _) => disguised,
            (_, true) => owner,
            _ => outsider,
        };
        let name = self.calls_itself.filter(|name| !name.is_empty());
        let name = name.map_or_else(String::new, |name| format!(" that call themselves {name}"));
        let unbound = if self.unbound {
            ", whom no policy binds"
        } else {
            ""
        };
        Finding {
            rule,
            severity,
            object: self.role,
            problem: format!("has {} sessions{name}{unbound}", self.count),
            remedy:
                "connect services as their serving roles; end the session if nobody answers for it"
                    .to_owned(),
        }
    }
}
