//! What the rules read: the expected schemas of `$1` beside what the catalogs hold, as common table expressions.
//!
//! Every rule is a `select` of object, problem and remedy over these. All rules run as one statement, so that each
//! expression is computed once and an attestation costs one round trip.
//! A remedy that ends with a semicolon is SQL that mends the departure as it stands; any other says what to do.
//! Invariant: only catalogs that any role may read; names are printed in full (the search path is `pg_catalog`).

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;

use super::{Expected, Finding, Severity};

/// A departure to look for. Its `sql` selects object, problem and remedy, one row for each departure.
pub(super) struct Rule {
    pub(super) id: &'static str,
    pub(super) severity: Severity,
    pub(super) sql: &'static str,
}

/// A rule whose departures open a hole, or hide one.
pub(super) const fn error(id: &'static str, sql: &'static str) -> Rule {
    Rule {
        id,
        severity: Severity::Error,
        sql,
    }
}

/// A rule whose departures cost speed, or prepare a hole for a later change.
pub(super) const fn warning(id: &'static str, sql: &'static str) -> Rule {
    Rule {
        id,
        severity: Severity::Warning,
        sql,
    }
}

/// Runs the rules; findings come in the order of the rules, then of the objects.
pub(super) async fn run(
    connection: &mut PgConnection,
    expected: &Expected,
    rules: &[&'static Rule],
) -> Result<Vec<Finding>, sqlx::Error> {
    let selects: Vec<String> = (0..)
        .zip(rules)
        .map(|(position, rule): (i32, _)| {
            let Rule { sql, .. } = rule;
            format!("select {position}, f.object, f.problem, f.remedy from ({sql}) as f (object, problem, remedy)")
        })
        .collect();
    let sql = format!(
        "{CATALOG}{}\norder by 1, 2, 3",
        selects.join("\nunion all\n")
    );
    let rows: Vec<(i32, String, String, String)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(Json(expected))
        .persistent(false)
        .fetch_all(connection)
        .await?;
    let finding = |(position, object, problem, remedy): (i32, String, String, String)| {
        let rule = usize::try_from(position)
            .ok()
            .and_then(|position| rules.get(position))?;
        Some(Finding {
            rule: rule.id,
            severity: rule.severity,
            object,
            problem,
            remedy,
        })
    };
    Ok(rows.into_iter().filter_map(finding).collect())
}

/// The text of a statement that names each table of tenants which this session may read and which nonetheless shows
/// rows. None when there is no such table, or when row security does not bind the session at all.
pub(super) async fn probe_of_tables(
    connection: &mut PgConnection,
    expected: &Expected,
) -> Result<Option<String>, sqlx::Error> {
    let select = "select string_agg(format('select %L where exists (select from %s%s)', object, object,
                                       case when h.name is not null
                                            then format(' where %I is distinct from %L', $1 ->> 'tenant_column', h.tenant)
                                       end), ' union all ')
        from bound b
        left join shared h on (h.schema, h.name) = (b.schema, b.name)
        where has_any_column_privilege(oid, 'select') and has_schema_privilege(namespace, 'usage')
          and not exists (select from exemption e
                          where (e.schema, e.role, e.name, e.command) = (b.schema, current_user, b.name, 'select'))
          and not exists (select from pg_roles where rolname = current_user and (rolsuper or rolbypassrls))";
    sqlx::query_scalar(AssertSqlSafe(format!("{CATALOG}{select}")))
        .bind(Json(expected))
        .persistent(false)
        .fetch_one(connection)
        .await
}

/// The common table expressions that every statement on the catalogs begins with.
pub(super) const CATALOG: &str = r#"
with recursive
schema_rule as (
    select s.schema, s.owner, s.app, s.exempt, s.tenantless, s.shared, s.definers, n.oid as namespace, n.nspacl as acl
    from jsonb_to_recordset($1 -> 'schemas')
             as s (schema text, owner text, app text, exempt jsonb, tenantless jsonb, shared jsonb, definers jsonb)
    left join pg_namespace n on n.nspname = s.schema
),
-- What a role may do on a table across tenants.
exemption as (
    select s.schema, x.role, x."table" as name, lower(unnest(x.commands)) as command
    from schema_rule s, jsonb_to_recordset(s.exempt) as x (role text, "table" text, commands text[])
),
-- Rows that every tenant may read: those of this tenant, or of none. An owner is null where none is declared.
shared as (
    select s.schema, x."table" as name, x.tenant
    from schema_rule s, jsonb_to_recordset(s.shared) as x ("table" text, tenant uuid)
),
-- The roles that reach rows while the service runs: the serving one and those of the exemptions.
running as (
    select r.schema, s.namespace, r.role, a.oid, coalesce(a.rolsuper, false) as superuser
    from (select schema, app as role from schema_rule union select schema, role from exemption) r
    join schema_rule s on s.schema = r.schema
    left join pg_roles a on a.rolname = r.role
),
context as (
    select p.oid, p.pronamespace as namespace, p.prolang, p.provolatile, p.prosecdef, p.proconfig, p.prorettype,
           f::text as call, format('(%I = %s)', $1 ->> 'tenant_column', f) as expression
    from to_regprocedure(($1 ->> 'context_function') || '()') as f
    left join pg_proc p on p.oid = f
),
-- tenant is the number of the tenant column, null where there is none.
relation as (
    select s.schema, s.namespace, s.owner, s.app, c.oid, c.relname as name, c.oid::regclass::text as object,
           c.relkind as kind, c.relispartition as is_partition, c.relowner, c.relacl,
           c.relrowsecurity as enabled, c.relforcerowsecurity as forced,
           exists (select from jsonb_array_elements(s.tenantless) t where t ->> 0 = c.relname) as tenantless,
           a.attnum as tenant, a.attnotnull as tenant_not_null, a.atttypid as tenant_type,
           coalesce(nullif(t.typbasetype, 0), a.atttypid) as tenant_stored_as
    from schema_rule s
    join pg_class c on c.relnamespace = s.namespace and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
    left join pg_attribute a
        on a.attrelid = c.oid and a.attname = $1 ->> 'tenant_column' and not a.attisdropped
    left join pg_type t on t.oid = a.atttypid
    -- An extension's own tables, which nobody else may use and which hold no tenants' rows.
    where a.attnum is not null or c.relacl is not null
       or not exists (select from pg_depend d
                      where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
),
stored as (select * from relation where kind in ('r', 'p')),
-- Tables that hold tenants' rows.
bound as (select * from stored where tenant is not null),
-- Rights on relations and on single columns, without the owner's own.
granted as (
    select r.schema, r.oid, r.name, r.object, r.kind, r.is_partition, r.tenant, r.tenantless, r.app,
           x.grantee, x.privilege_type as verb, x.is_grantable,
           case x.grantee when 0 then 'public' else x.grantee::regrole::text end as role
    from relation r,
         lateral (select * from aclexplode(r.relacl)
                  union
                  select x.* from pg_attribute a, aclexplode(a.attacl) x
                  where a.attrelid = r.oid and a.attacl is not null) x
    where x.grantee <> r.relowner
),
-- One row for each role and command that a policy speaks of.
policy as (
    select b.schema, b.oid, b.name, b.object, b.app, p.polname, p.polpermissive as permissive, p.polcmd,
           r.oid as role_oid, case r.oid when 0 then 'public' else pg_get_userbyid(r.oid)::text end as role, v.command,
           pg_get_expr(p.polqual, p.polrelid) as seen, pg_get_expr(p.polwithcheck, p.polrelid) as written
    from bound b
    join pg_policy p on p.polrelid = b.oid
    cross join unnest(p.polroles) as r (oid)
    join (values ('r', 'select'), ('a', 'insert'), ('w', 'update'), ('d', 'delete')) as v (code, command)
        on p.polcmd::text in ('*', v.code)
),
-- Copies that partitioning makes of a key are its own affair: conparentid.
foreign_key as (
    select f.oid, f.conname, f.conrelid::regclass::text as object, f.confrelid::regclass::text as referenced,
           f.conrelid, f.confrelid, f.conkey, f.confkey, f.confdeltype, f.confupdtype, f.confdelsetcols,
           f.convalidated, to_jsonb(f) ->> 'conenforced' = 'false' as unenforced,
           a.attnum as tenant, r.attnum as referenced_tenant,
           exists (select from stored s where s.oid = f.confrelid and s.tenantless) as to_tenantless
    from pg_constraint f
    left join pg_attribute a
        on a.attrelid = f.conrelid and a.attname = $1 ->> 'tenant_column' and not a.attisdropped
    left join pg_attribute r
        on r.attrelid = f.confrelid and r.attname = $1 ->> 'tenant_column' and not r.attisdropped
    where f.contype = 'f' and f.conparentid = 0
      and (f.conrelid in (select oid from stored) or f.confrelid in (select oid from stored))
),
-- Exclusion constraints with the columns that they compare by =.
exclusion as (
    select b.oid, b.object, b.tenant, b.is_partition, x.conname, x.conparentid <> 0 as is_copy,
           pg_partition_root(b.oid) as root, pg_get_constraintdef(x.oid) as definition,
           array(select e.attnum
                 from unnest(x.conkey, x.conexclop) as e (attnum, operator)
                 join pg_operator o on o.oid = e.operator and o.oprname = '=') as equal
    from bound b
    join pg_constraint x on x.conrelid = b.oid and x.contype = 'x'
),
-- Functions of the schemas. Text of a body is in prosrc, or parsed in prosqlbody.
routine as (
    select s.schema, p.oid, p.oid::regprocedure::text as object, p.prosecdef, p.proconfig, p.provolatile, p.prorettype,
           p.proowner, p.proacl, coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) as body
    from schema_rule s
    join pg_proc p on p.pronamespace = s.namespace
    where not exists (select from pg_depend d
                      where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
),
-- Functions that may run with the rights of their owner, since they are listed with a reason.
definer as (
    select p.oid
    from schema_rule s, jsonb_array_elements(s.definers) f, pg_proc p
    where p.prosecdef and p.oid::regprocedure::text = f ->> 0
),
-- Relations of the schemas, and whatever reads or rewrites into them from anywhere through views and rules.
reader as (
    select oid from relation where kind <> 'S'
    union
    select w.ev_class
    from reader r
    join pg_depend d
        on d.refclassid = 'pg_class'::regclass and d.refobjid = r.oid and d.classid = 'pg_rewrite'::regclass
    join pg_rewrite w on w.oid = d.objid
)
"#;
