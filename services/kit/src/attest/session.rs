//! The session half of the check: this very connection is who it should be, on a server that is not known to leak.

use sqlx::postgres::PgConnection;

use super::{Finding, Severity};

/// The first release of each major version in which no known fault breaks row-level security; older majors have none.
const VERSION_FLOOR: [(i32, i32); 4] = [(15, 18), (16, 14), (17, 10), (18, 4)];

/// What this module decides.
pub(super) const RULES: [&str; 5] = [
    "session-role",
    "session-unbound",
    "session-row-security",
    "session-replication",
    "version-floor",
];

/// Checks that the connection serves as `role`, is bound by row-level security, and talks to a server at or above the
/// version floor. Any role may call it; it changes nothing.
pub async fn attest_session(
    connection: &mut PgConnection,
    role: &str,
) -> Result<Vec<Finding>, sqlx::Error> {
    let session: Session = sqlx::query_as(
        "select session_user::text as login, current_user::text as role,
                pg_catalog.bool_or(rolsuper or rolbypassrls) as unbound,
                pg_catalog.current_setting('row_security') as row_security,
                pg_catalog.current_setting('session_replication_role') as replication_role,
                pg_catalog.current_setting('server_version_num')::pg_catalog.int4 as version
         from pg_catalog.pg_roles where rolname in (current_user, session_user)",
    )
    .persistent(false)
    .fetch_one(connection)
    .await?;
    Ok(session.departures(role))
}

#[derive(sqlx::FromRow)]
struct Session {
    /// Who connected.
    login: String,
    /// Who the session acts as.
    role: String,
    unbound: bool,
    row_security: String,
    replication_role: String,
    version: i32,
}

impl Session {
    fn departures(&self, role: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut depart = |rule, problem: String, remedy: &str| {
            findings.push(Finding {
                rule,
                severity: Severity::Error,
                object: "session".to_owned(),
                problem,
                remedy: remedy.to_owned(),
            });
        };
        if self.login != role || self.role != role {
            depart(
                "session-role",
                format!("is {} acting as {}, not {role}", self.login, self.role),
                "connect as the serving role itself, not through a pooler that changes roles",
            );
        }
        if self.unbound {
            depart(
                "session-unbound",
                "is bound by no row-level security".to_owned(),
                "connect as a role with nosuperuser and nobypassrls",
            );
        }
        if self.row_security != "on" {
            depart(
                "session-row-security",
                "row_security is off".to_owned(),
                "reset row_security for the role, the database and the server",
            );
        }
        if self.replication_role != "origin" {
            depart(
                "session-replication",
                "session_replication_role keeps foreign keys from being enforced".to_owned(),
                "reset session_replication_role",
            );
        }
        if let Some(floor) = floor(self.version) {
            depart(
                "version-floor",
                format!(
                    "PostgreSQL {}.{} has known faults",
                    self.version / 10_000,
                    self.version % 10_000
                ),
                &format!("upgrade to {floor} or later"),
            );
        }
        findings
    }
}

/// What a server of this `server_version_num` must be upgraded to, if it must.
fn floor(version: i32) -> Option<String> {
    let (major, minor) = (version / 10_000, version % 10_000);
    let (wanted_major, wanted_minor) = VERSION_FLOOR
        .into_iter()
        .find(|(known, _)| *known >= major)?;
    ((major, minor) < (wanted_major, wanted_minor))
        .then(|| format!("PostgreSQL {wanted_major}.{wanted_minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(change: impl FnOnce(&mut Session)) -> Vec<&'static str> {
        let mut session = Session {
            login: "ledger_app".to_owned(),
            role: "ledger_app".to_owned(),
            unbound: false,
            row_security: "on".to_owned(),
            replication_role: "origin".to_owned(),
            version: 150_018,
        };
        change(&mut session);
        let findings = session.departures("ledger_app");
        findings.iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn a_session_of_the_serving_role_is_accepted() {
        assert!(rules(|_| ()).is_empty());
    }

    #[test]
    fn a_session_that_policies_may_not_bind_is_refused() {
        assert_eq!(
            rules(|session| session.login = "postgres".to_owned()),
            ["session-role"]
        );
        assert_eq!(
            rules(|session| session.role = "ledger_owner".to_owned()),
            ["session-role"]
        );
        assert_eq!(rules(|session| session.unbound = true), ["session-unbound"]);
        assert_eq!(
            rules(|session| session.row_security = "off".to_owned()),
            ["session-row-security"]
        );
        assert_eq!(
            rules(|session| session.replication_role = "replica".to_owned()),
            ["session-replication"]
        );
    }

    #[test]
    fn each_major_version_has_its_own_floor() {
        for (version, wanted) in [
            (140_099, Some("PostgreSQL 15.18")),
            (150_017, Some("PostgreSQL 15.18")),
            (150_018, None),
            (160_013, Some("PostgreSQL 16.14")),
            (160_014, None),
            (170_009, Some("PostgreSQL 17.10")),
            (180_003, Some("PostgreSQL 18.4")),
            (180_006, None),
            (190_000, None),
        ] {
            assert_eq!(floor(version).as_deref(), wanted, "{version}");
        }
    }
}
