//! Whether policies bound rows to the context's tenant: each expression is evaluated as the session's role, over rows of
//! its own tenant, of others and of none, with a context and without.
//!
//! A table's permissive policies add up and its restrictive ones narrow, for each role and command, as PostgreSQL
//! combines them. Rows are made up by a list of values, so no type or constraint of another column is in the way.
//! Invariant: nothing is evaluated that is not understood, so that no function of anybody else is ever run.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Connection, Either};
use uuid::Uuid;

use super::catalog::CATALOG;
use super::expression::{Tree, Words, named_tenants};
use super::probes::{departure, refusal};
use super::{Expected, Finding};

/// What this module decides.
pub(super) const RULE: &str = "policy-not-tenant";

/// Two tenants of nobody, one on each side of the other in any order.
const OWN: Uuid = Uuid::from_u128(0x5a3c_7f0e_9d1b_4c2a_8e6f_1b2d_3c4e_5f60);
const FOREIGN: Uuid = Uuid::from_u128(0x9b41_2d7c_03ae_4f58_b6d2_7e8f_9012_3456);

/// A policy as one role meets it with one command.
#[derive(Debug, sqlx::FromRow)]
struct Policy {
    object: String,
    name: String,
    permissive: bool,
    /// The command that it was made for: `*`, or the first letter of the catalog.
    made_for: String,
    role: String,
    command: String,
    seen: Option<String>,
    written: Option<String>,
    /// The role may do so across tenants.
    exempt: bool,
    /// Rows of `mark` are for every tenant's eyes; without a mark, those of no tenant.
    shared: bool,
    mark: Option<Uuid>,
    canonical: Option<String>,
    /// The call of the context function, and the tenant column, as the catalog prints them.
    context: Option<String>,
    tenant_column: String,
}

/// Whose rows a policy may show to every tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shared {
    Nothing,
    /// Those of this tenant, or of no tenant.
    RowsOf(Option<Uuid>),
}

/// A part of an expression, with what it may show to everybody.
type Part<'a> = (&'a str, Shared);

/// A policy that does not bound what a role may do.
struct Flawed<'a> {
    policy: &'a Policy,
    commands: BTreeSet<&'a str>,
    texts: BTreeSet<&'a str>,
    flaw: String,
}

impl Policy {
    fn expressions(&self) -> Vec<&str> {
        let written = || self.written.as_deref().or(self.seen.as_deref());
        let (seen, written) = match self.command.as_str() {
            "insert" => (None, written()),
            "update" => (self.seen.as_deref(), written()),
            _ => (self.seen.as_deref(), None),
        };
        seen.into_iter().chain(written).collect()
    }

    fn shared(&self) -> Shared {
        if self.shared && self.command == "select" {
            Shared::RowsOf(self.mark)
        } else {
            Shared::Nothing
        }
    }

    fn remedy(&self) -> String {
        let canonical = self.canonical.as_deref().unwrap_or("(false)");
        let clauses = match self.made_for.as_str() {
            "a" => format!("with check {canonical}"),
            "r" | "d" => format!("using {canonical}"),
            _ => format!("using {canonical} with check {canonical}"),
        };
        format!("alter policy {} on {} {clauses};", self.name, self.object)
    }
}

/// Finds the policies that let a role reach another tenant's rows.
pub(super) async fn run(
    connection: &mut PgConnection,
    expected: &Expected,
) -> Result<Vec<Finding>, sqlx::Error> {
    let policies = read(connection, expected).await?;
    let Some(first) = policies.first() else {
        return Ok(Vec::new());
    };
    let words = Words {
        column: first.tenant_column.clone(),
        // Without the function there is no word for it; its absence is another rule's.
        context: first.context.clone().unwrap_or_else(|| "\0".to_owned()),
        setting: expected.setting.replace('\'', "''"),
    };
    let trees: HashMap<&str, Tree<'_>> = policies
        .iter()
        .flat_map(Policy::expressions)
        .map(|text| (text, Tree::parse(text)))
        .collect();
    let mut parts: BTreeMap<Part<'_>, Option<String>> = BTreeMap::new();
    let mut evaluated: Vec<(Part<'_>, Vec<Uuid>)> = Vec::new();
    for policy in &policies {
        for leaf in policy
            .expressions()
            .iter()
            .filter_map(|text| trees.get(text))
            .flat_map(Tree::leaves)
        {
            let part = (leaf, policy.shared());
            if parts.contains_key(&part) {
                continue;
            }
            let flaw = match named_tenants(leaf, &words) {
                Ok(named) => {
                    evaluated.push((part, named));
                    None
                }
                Err(word) => Some(format!("depends on more than the tenant: {word}")),
            };
            parts.insert(part, flaw);
        }
    }
    for (part, flaw) in evaluate(connection, expected, &words, &evaluated).await? {
        parts.insert(part, Some(flaw));
    }
    Ok(judge(&policies, &trees, &parts))
}

async fn read(
    connection: &mut PgConnection,
    expected: &Expected,
) -> Result<Vec<Policy>, sqlx::Error> {
    let select = "select p.object, quote_ident(p.polname) as name, p.permissive, p.polcmd::text as made_for,
               r.role, p.command, p.seen, p.written,
               exists (select from exemption e
                       where (e.schema, e.role, e.name, e.command) = (p.schema, r.role, p.name, p.command)) as exempt,
               h.name is not null as shared, h.tenant as mark, c.expression as canonical,
               c.call as context, quote_ident($1 ->> 'tenant_column') as tenant_column
        from policy p
        join running r on r.schema = p.schema and r.oid is not null and p.role_oid in (0, r.oid)
        cross join context c
        left join shared h on (h.schema, h.name) = (p.schema, p.name)
        order by p.object, p.polname, r.role, p.command";
    sqlx::query_as(AssertSqlSafe(format!("{CATALOG}{select}")))
        .bind(Json(expected))
        .persistent(false)
        .fetch_all(connection)
        .await
}

/// The parts that are true of a row which they should not be true of, each with the first such row.
async fn evaluate<'a>(
    connection: &mut PgConnection,
    expected: &Expected,
    words: &Words,
    parts: &[(Part<'a>, Vec<Uuid>)],
) -> Result<Vec<(Part<'a>, String)>, sqlx::Error> {
    let mut flaws = Vec::new();
    if parts.is_empty() {
        return Ok(flaws);
    }
    let select = |position: usize, part: &str, named: &[Uuid]| {
        let rows: Vec<String> = [OWN, FOREIGN]
            .iter()
            .chain(named)
            .map(|tenant| format!("('{tenant}'::uuid)"))
            .collect();
        let (column, rows) = (&words.column, rows.join(", "));
        format!(
            "select {position}::int8, {column} from (values (null::uuid), {rows}) as row_of ({column}) where ({part}) is true"
        )
    };
    // A tenant that an expression names may be one that it opens the table for.
    let named: BTreeSet<Uuid> = parts.iter().flat_map(|(_, named)| named).copied().collect();
    let tenants = named.into_iter().chain([OWN, FOREIGN]);
    let states = [None, Some(String::new())]
        .into_iter()
        .chain(tenants.map(|tenant| Some(tenant.to_string())));
    for context in states {
        let mut probe = connection.begin().await?;
        if let Some(tenant) = &context {
            sqlx::query("select set_config($1, $2, true)")
                .bind(&expected.setting)
                .bind(tenant)
                .persistent(false)
                .execute(&mut *probe)
                .await?;
        }
        let tenant = context.as_deref().and_then(|tenant| tenant.parse().ok());
        let selects: Vec<String> = (0..)
            .zip(parts)
            .map(|(position, ((part, _), named))| select(position, part, named))
            .collect();
        let mut told = true_of(&mut probe, &selects.join(" union all ")).await?;
        if let Either::Right(_) = told {
            // One of them fails: each on its own says which.
            let mut rows = Vec::new();
            for (select, (part, _)) in selects.iter().zip(parts) {
                match true_of(&mut probe, select).await? {
                    Either::Left(shown) => rows.extend(shown),
                    Either::Right(message) => {
                        let state = if tenant.is_some() {
                            "inside"
                        } else {
                            "outside"
                        };
                        flaws.push((*part, format!("fails {state} a tenant: {message}")));
                    }
                }
            }
            told = Either::Left(rows);
        }
        probe.rollback().await?;
        let Either::Left(rows) = told else { continue };
        for (position, shown) in rows {
            let Some((part, _)) = usize::try_from(position).ok().and_then(|at| parts.get(at))
            else {
                continue;
            };
            let is_own = shown.is_some() && shown == tenant;
            if !is_own && part.1 != Shared::RowsOf(shown) {
                let whose = match (shown, tenant) {
                    (None, _) => "a row of no tenant",
                    (Some(_), None) => "a tenant's row, outside any tenant",
                    (Some(_), Some(_)) => "another tenant's row",
                };
                flaws.push((*part, format!("is true of {whose}")));
            }
        }
    }
    // The last told of a part stands, and what a caller inside a tenant sees was tried last.
    Ok(flaws)
}

/// Position and tenant of each row that a part is true of.
async fn true_of(
    probe: &mut PgConnection,
    selects: &str,
) -> Result<Either<Vec<(i64, Option<Uuid>)>, String>, sqlx::Error> {
    let mut savepoint = probe.begin().await?;
    let rows = sqlx::query_as(AssertSqlSafe(selects.to_owned()))
        .persistent(false)
        .fetch_all(&mut *savepoint)
        .await;
    let rows = refusal(rows)?;
    savepoint.rollback().await?;
    Ok(rows)
}

fn judge(
    policies: &[Policy],
    trees: &HashMap<&str, Tree<'_>>,
    parts: &BTreeMap<Part<'_>, Option<String>>,
) -> Vec<Finding> {
    let flaw_of = |policy: &Policy| -> Option<String> {
        let shared = policy.shared();
        let flaws: HashMap<&str, Option<String>> = parts
            .iter()
            .filter(|((_, of), _)| *of == shared)
            .map(|((leaf, _), flaw)| (*leaf, flaw.clone()))
            .collect();
        let texts = policy.expressions();
        texts
            .iter()
            .filter_map(|text| trees.get(text))
            .find_map(|tree| tree.bounded(&flaws).err())
    };
    // What one role may do to one table.
    let mut flawed: BTreeMap<(&str, &str, &str), Flawed<'_>> = BTreeMap::new();
    let mut narrowed: BTreeSet<(&str, &str, &str)> = BTreeSet::new();
    for policy in policies.iter().filter(|policy| !policy.permissive) {
        // It bounds a command only if it says something of all rows that the command meets, those of before as well.
        let says_all = policy.seen.is_some() || policy.command == "insert";
        if says_all && !policy.expressions().is_empty() && flaw_of(policy).is_none() {
            narrowed.insert((&policy.object, &policy.role, &policy.command));
        }
    }
    for policy in policies
        .iter()
        .filter(|policy| policy.permissive && !policy.exempt)
    {
        if narrowed.contains(&(policy.object.as_str(), &policy.role, &policy.command)) {
            continue;
        }
        if let Some(flaw) = flaw_of(policy) {
            let found = flawed
                .entry((&policy.object, &policy.name, &policy.role))
                .or_insert_with(|| Flawed {
                    policy,
                    commands: BTreeSet::new(),
                    texts: BTreeSet::new(),
                    flaw,
                });
            found.commands.insert(&policy.command);
            found.texts.extend(policy.expressions());
        }
    }
    flawed.into_values().map(Flawed::departure).collect()
}

impl Flawed<'_> {
    fn departure(self) -> Finding {
        let joined = |words: BTreeSet<&str>, by| words.into_iter().collect::<Vec<_>>().join(by);
        let Policy {
            name, role, object, ..
        } = self.policy;
        let problem = format!(
            "the policy {name} lets {role} {} by {}, which {}",
            joined(self.commands, ", "),
            joined(self.texts, " and "),
            self.flaw
        );
        departure(RULE, object, problem, &self.policy.remedy())
    }
}
