//! Rules on policies and on the rights beside them.
//! Invariant: a role sees and writes the rows of the context's tenant, or what a listed exemption names, and no more.

use super::catalog::{Rule, error, warning};

pub(super) const RULES: &[Rule] = &[
    error(
        "policy-to-public",
        "select distinct p.object, format('the policy %s is for every role', p.polname),
                format('alter policy %I on %s to %I;', p.polname, p.object, s.app)
         from policy p join schema_rule s on s.schema = p.schema
         where p.permissive and p.role_oid = 0",
    ),
    error(
        "policy-to-stranger",
        "select distinct p.object,
                format('the policy %s is for %s, which is no role of this schema', p.polname, p.role),
                format('drop policy %I on %s;', p.polname, p.object)
         from policy p
         where p.permissive and p.role_oid <> 0
           and not exists (select from running r where r.schema = p.schema and r.oid = p.role_oid)",
    ),
    // PostgreSQL takes the USING expression then; written out, a later change of one cannot change the other unseen.
    error(
        "policy-without-check",
        "select distinct p.object, format('the policy %s says nothing of the rows that are written', p.polname),
                format('alter policy %I on %s with check (%s);', p.polname, p.object, p.seen)
         from policy p
         where p.permissive and p.polcmd in ('*', 'w') and p.written is null and p.seen is not null",
    ),
    // A right without a policy always fails, so it is a mistake in one or the other.
    error(
        "grant-without-policy",
        "select g.object, format('%s may %s, but no policy lets it', g.role, lower(g.verb)),
                format('revoke %s on %s from %s;', lower(g.verb), g.object, g.role)
         from granted g
         where g.tenant is not null and not g.is_partition and g.verb in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
           and exists (select from running r where r.schema = g.schema and r.oid = g.grantee)
           and g.kind in ('r', 'p')
           and not exists (select from policy p
                           where p.oid = g.oid and p.permissive and p.role_oid in (0, g.grantee)
                             and p.command = lower(g.verb)
                             and case p.command when 'insert' then coalesce(p.written, p.seen) else p.seen end
                                 is not null)",
    ),
    error(
        "granted-to-public",
        "select g.object, format('every role may %s', string_agg(lower(g.verb), ', ')),
                format('revoke all on %s from public;', g.object)
         from granted g where g.grantee = 0 group by g.object
         union all
         select s.schema, 'every role may use the schema', format('revoke all on schema %I from public;', s.schema)
         from schema_rule s where exists (select from aclexplode(s.acl) x where x.grantee = 0)",
    ),
    error(
        "granted-to-stranger",
        "select g.object, format('%s may %s, and is no role of this schema', g.role, string_agg(lower(g.verb), ', ')),
                format('revoke all on %s from %s;', g.object, g.role)
         from granted g
         where g.grantee <> 0
           and not exists (select from running r where r.schema = g.schema and r.oid = g.grantee)
         group by g.object, g.role
         union all
         select r.object, format('%s may execute it, and is no role of this schema', x.grantee::regrole),
                format('revoke execute on function %s from %s;', r.object, x.grantee::regrole)
         from routine r, aclexplode(r.proacl) x
         where x.grantee not in (0, r.proowner)
           and not exists (select from running u where u.schema = r.schema and u.oid = x.grantee)",
    ),
    // TRUNCATE ignores row-level security, REFERENCES makes an oracle of keys, TRIGGER runs code as other roles.
    error(
        "granted-too-much",
        "select g.object, format('%s may %s', g.role, lower(g.verb)),
                format('revoke %s on %s from %s;', lower(g.verb), g.object, g.role)
         from granted g
         where g.kind <> 'S' and g.grantee <> 0 and g.verb not in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
         union all
         select g.object, format('%s may hand %s on', g.role, lower(g.verb)),
                format('revoke grant option for %s on %s from %s;', lower(g.verb), g.object, g.role)
         from granted g where g.is_grantable",
    ),
    // The parent's policies cover what is read through the parent; nobody need name a partition.
    error(
        "partition-granted",
        "select g.object, format('%s reaches the partition past its parent', g.role),
                format('revoke all on %s from %s;', g.object, g.role)
         from granted g where g.is_partition group by g.object, g.role",
    ),
    // What all tenants share, no tenant's request may change.
    error(
        "tenantless-written",
        "select g.object, format('%s may %s rows that all tenants share', g.role, lower(g.verb)),
                format('revoke %s on %s from %s;', lower(g.verb), g.object, g.role)
         from granted g
         where g.tenantless and g.tenant is null and g.kind in ('r', 'p') and g.role = quote_ident(g.app)
           and g.verb in ('INSERT', 'UPDATE', 'DELETE')
           and not exists (select from exemption e
                           where (e.schema, e.role, e.name, e.command) = (g.schema, g.app, g.name, lower(g.verb)))",
    ),
    // A counter that all tenants share tells each how much the others write. Identity columns need no right on theirs.
    warning(
        "sequence-granted",
        "select g.object, format('%s may use a counter that all tenants share', g.role),
                format('revoke all on sequence %s from %s;', g.object, g.role)
         from granted g where g.kind = 'S' and g.grantee <> 0 group by g.object, g.role",
    ),
    // The default for a new function. It runs with the rights of the caller, but the next change may not.
    warning(
        "function-to-public",
        "select r.object, 'every role may execute it', format('revoke execute on function %s from public;', r.object)
         from routine r
         where r.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
           and exists (select from aclexplode(coalesce(r.proacl, acldefault('f', r.proowner))) x where x.grantee = 0)",
    ),
    warning(
        "default-privileges",
        "select distinct coalesce(n.nspname::text, 'all schemas'),
                format('what %s creates is granted to %s unasked', d.defaclrole::regrole, g.role),
                format('alter default privileges for role %s%s revoke all on %s from %s;', d.defaclrole::regrole,
                       ' in schema ' || quote_ident(n.nspname), k.kind, g.role)
         from pg_default_acl d
         cross join aclexplode(d.defaclacl) x
         cross join lateral (select case x.grantee when 0 then 'public' else x.grantee::regrole::text end) as g (role)
         join (values ('r', 'tables'), ('S', 'sequences'), ('f', 'routines'), ('T', 'types'), ('n', 'schemas'))
                  as k (code, kind) on k.code = d.defaclobjtype::text
         left join pg_namespace n on n.oid = d.defaclnamespace
         where x.grantee <> d.defaclrole
           and (d.defaclnamespace in (select namespace from schema_rule)
                or d.defaclnamespace = 0
                   and d.defaclrole in (select to_regrole(quote_ident(owner)) from schema_rule))",
    ),
];
