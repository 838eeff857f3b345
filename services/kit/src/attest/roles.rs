//! Rules on roles and functions: who could step around the policies, and how.
//! Invariant: the roles that serve have the rights of their own schema and nothing else in the whole server.

use super::catalog::{Rule, error, warning};

pub(super) const RULES: &[Rule] = &[
    error(
        "role-missing",
        "select x.role, format('the role of the schema %s does not exist', x.schema), format('create role %I, then migrate', x.role)
         from (select schema, role, oid from running
               union select schema, owner, to_regrole(quote_ident(owner)) from schema_rule) x
         where x.oid is null",
    ),
    error(
        "owner-serves",
        "select r.role, format('owns the schema %s and serves it', s.schema),
                'serve as a role that owns nothing'
         from schema_rule s join running r on r.schema = s.schema and r.role = s.owner
         union all
         select s.schema, format('the schema belongs to %s and not to %s', n.nspowner::regrole, s.owner),
                format('alter schema %I owner to %I;', s.schema, s.owner)
         from schema_rule s join pg_namespace n on n.oid = s.namespace
         where n.nspowner is distinct from to_regrole(quote_ident(s.owner))",
    ),
    error(
        "role-attribute",
        "select distinct a.rolname::text, format('is %s', t.attribute),
                format('alter role %I no%s;', a.rolname, t.attribute)
         from pg_roles a
         cross join lateral (values ('superuser', a.rolsuper), ('bypassrls', a.rolbypassrls),
                                    ('createrole', a.rolcreaterole), ('createdb', a.rolcreatedb),
                                    ('replication', a.rolreplication)) as t (attribute, held)
         where t.held and (a.oid in (select oid from running) or a.rolname in (select owner from schema_rule))",
    ),
    // The rights of a group are a member's too, and its policies; pg_read_all_data and its kin are groups as well.
    error(
        "role-membership",
        "select distinct a.rolname::text, format('is a member of %s', m.roleid::regrole),
                format('revoke %s from %I;', m.roleid::regrole, a.rolname)
         from pg_auth_members m join pg_roles a on a.oid = m.member
         where a.oid in (select oid from running) or a.rolname in (select owner from schema_rule)",
    ),
    // Who made a role may grant it, from PostgreSQL 16 on, but neither inherits from it nor becomes it.
    error(
        "role-lent",
        "select r.role, format('%s is a member of it', m.member::regrole),
                format('revoke %I from %s;', r.role, m.member::regrole)
         from (select distinct oid, role from running) r
         join pg_auth_members m on m.roleid = r.oid
         join pg_roles a on a.oid = m.member
         where not a.rolsuper
           and (coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, true)
                or coalesce((to_jsonb(m) ->> 'set_option')::boolean, true))",
    ),
    // An owner may switch row-level security off.
    error(
        "role-owns",
        "select distinct r.role, format('owns the %s', pg_describe_object(d.classid, d.objid, d.objsubid)),
                format('reassign owned by %I to %I;', r.role, s.owner)
         from running r
         join schema_rule s on s.schema = r.schema
         join pg_shdepend d on d.refclassid = 'pg_authid'::regclass and d.refobjid = r.oid and d.deptype = 'o'
         where d.dbid in (0, (select oid from pg_database where datname = current_database()))",
    ),
    // Everything that names the role in a list of rights: tables, functions, large objects, parameters, servers.
    error(
        "role-elsewhere",
        "select distinct r.role,
                format('has rights on the %s', pg_describe_object(d.classid, d.objid, d.objsubid)),
                format('revoke all on … from %I', r.role)
         from running r
         join pg_shdepend d on d.refclassid = 'pg_authid'::regclass and d.refobjid = r.oid and d.deptype = 'a'
         left join pg_class c on d.classid = 'pg_class'::regclass and c.oid = d.objid
         left join pg_proc p on d.classid = 'pg_proc'::regclass and p.oid = d.objid
         where d.dbid in (0, (select oid from pg_database where datname = current_database()))
           and d.classid not in ('pg_database'::regclass, 'pg_default_acl'::regclass)
           and coalesce(c.relnamespace, p.pronamespace,
                        case d.classid when 'pg_namespace'::regclass then d.objid end, 0)
               not in (select o.namespace from running o where o.oid = r.oid and o.namespace is not null
                       union all
                       select x.namespace from context x
                       where x.namespace is not null and d.classid <> 'pg_class'::regclass)",
    ),
    error(
        "role-creates",
        "select distinct r.role, format('may create objects in the schema %s', n.nspname),
                format('revoke create on schema %I from %I, public;', n.nspname, r.role)
         from running r cross join pg_namespace n
         where r.oid is not null and not r.superuser and n.nspname !~ '^pg_(toast|temp)'
           and has_schema_privilege(r.oid, n.oid, 'create')
         union
         select r.role, 'may create schemas', format('revoke create on database %I from %I, public;', current_database(), r.role)
         from running r
         where r.oid is not null and not r.superuser and has_database_privilege(r.oid, current_database(), 'create')",
    ),
    // A temporary object comes first in the search path and can stand in for a real one.
    error(
        "role-temporary",
        "select distinct r.role, 'may create temporary tables',
                format('revoke temporary on database %I from public, %I;', current_database(), r.role)
         from running r
         where r.oid is not null and not r.superuser
           and has_database_privilege(r.oid, current_database(), 'temporary')",
    ),
    // A session would begin inside a tenant, or without triggers, and so without foreign keys.
    error(
        "session-preset",
        "select coalesce(a.rolname::text, current_database()::text), format('sessions begin with %s', c.setting),
                format('alter %s reset %s;',
                       case when a.oid is null and s.setdatabase = 0 then 'role all'
                            when a.oid is null then format('database %I', current_database())
                            when s.setdatabase = 0 then format('role %I', a.rolname)
                            else format('role %I in database %I', a.rolname, current_database()) end,
                       split_part(c.setting, '=', 1))
         from pg_db_role_setting s
         cross join unnest(s.setconfig) as c (setting)
         left join pg_roles a on a.oid = s.setrole
         where s.setdatabase in (0, (select oid from pg_database where datname = current_database()))
           and (lower(split_part(c.setting, '=', 1)) = lower($1 ->> 'setting')
                or lower(c.setting) in ('session_replication_role=replica', 'session_replication_role=local',
                                        'row_security=off')
                or (lower(split_part(c.setting, '=', 1)) = 'role' or c.setting ~* '^search_path=.*,.*pg_catalog')
                   and (a.oid is null or a.oid in (select oid from running)))",
    ),
    warning(
        "serving-setting",
        "select distinct r.role, format('serves without %s = %s', w.key, w.value),
                format('alter role %I set %s = %L;', r.role, w.key, w.value)
         from running r cross join jsonb_each_text($1 -> 'role_settings') w
         where r.oid is not null
           and not exists (select from pg_db_role_setting s cross join unnest(s.setconfig) as c (setting)
                           where s.setrole in (0, r.oid)
                             and s.setdatabase in (0, (select oid from pg_database where datname = current_database()))
                             and c.setting = w.key || '=' || w.value)",
    ),
    // It runs with the rights of its owner, as a serving role may call it from anywhere.
    error(
        "security-definer",
        "select p.oid::regprocedure::text, format('runs with the rights of %s', p.proowner::regrole),
                format('alter routine %s security invoker;', p.oid::regprocedure)
         from pg_proc p
         where p.prosecdef
           and p.oid not in (select oid from definer)
           and not exists (select from pg_depend d
                           where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
           and (p.pronamespace in (select namespace from schema_rule)
                or p.pronamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
                   and exists (select from running r
                               where r.oid is not null and not r.superuser
                                 and has_function_privilege(r.oid, p.oid, 'execute')
                                 and has_schema_privilege(r.oid, p.pronamespace, 'usage')))",
    ),
    // Without a path of its own it finds what its caller put first in theirs, temporary objects before all.
    error(
        "definer-search-path",
        "select p.oid::regprocedure::text, 'runs with the rights of its owner by the search path of its caller',
                format('alter routine %s set search_path = pg_catalog, pg_temp;', p.oid::regprocedure)
         from definer f join pg_proc p on p.oid = f.oid
         where p.prosecdef
           and not exists (select from unnest(p.proconfig) as c (setting)
                           where c.setting ~ '^search_path=(pg_catalog|\"\")(, .*)?, pg_temp$')",
    ),
    // What it reads or writes passes the policies of its owner's role, which bind nobody to the caller's tenant.
    error(
        "definer-reaches-tenants",
        "select p.oid::regprocedure::text, 'reaches tenants'' rows with the rights of its owner',
                format('alter routine %s security invoker;', p.oid::regprocedure)
         from definer f join pg_proc p on p.oid = f.oid
         where p.prosecdef
           and (exists (select from pg_depend d
                        where d.classid = 'pg_proc'::regclass and d.objid = p.oid
                          and d.refclassid = 'pg_class'::regclass and d.refobjid in (select oid from reader))
                or p.prosrc ~* '\\mexecute\\M'
                or exists (select from bound b where position(lower(b.name) in lower(p.prosrc)) > 0))",
    ),
    // Code in such a language acts as the server itself.
    error(
        "untrusted-function",
        "select p.oid::regprocedure::text, format('is written in %s, which nothing confines', l.lanname),
                format('drop routine %s;', p.oid::regprocedure)
         from pg_proc p join pg_language l on l.oid = p.prolang and not l.lanpltrusted
         where p.pronamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
           and not exists (select from pg_depend d
                           where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
           and (p.pronamespace in (select namespace from schema_rule)
                or exists (select from running r
                           where r.oid is not null and not r.superuser
                             and has_function_privilege(r.oid, p.oid, 'execute')
                             and has_schema_privilege(r.oid, p.pronamespace, 'usage')))",
    ),
    // Large objects have no policies.
    error(
        "large-object",
        "select format('large object %s', o.oid), 'every role may reach it, of whatever tenant',
                format('revoke all on large object %s from public;', o.oid)
         from pg_largeobject_metadata o
         where exists (select from aclexplode(o.lomacl) x where x.grantee = 0)
         union all
         select 'lo_compat_privileges', 'every role may reach every large object', 'reset lo_compat_privileges'
         where current_setting('lo_compat_privileges')::boolean",
    ),
    warning(
        "event-trigger",
        "select e.evtname::text, format('runs %s in the session of whoever meets %s', e.evtfoid::regprocedure, e.evtevent),
                format('drop event trigger %I;', e.evtname)
         from pg_event_trigger e
         where e.evtenabled <> 'D'
           and not exists (select from pg_depend d
                           where d.classid = 'pg_event_trigger'::regclass and d.objid = e.oid and d.deptype = 'e')",
    ),
    // A leakproof function is evaluated before the policy, on rows that the policy would hide.
    error(
        "leakproof-function",
        "select p.oid::regprocedure::text, 'is evaluated before the policies',
                format('alter function %s not leakproof;', p.oid::regprocedure)
         from pg_proc p
         where p.proleakproof
           and p.pronamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
           and not exists (select from pg_depend d
                           where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')",
    ),
    // Its caller would go on in the tenant that the function left behind. Stable ones may be evaluated at any time.
    error(
        "context-kept",
        "select r.object, format('sets %s and does not restore it', $1 ->> 'setting'),
                format('alter routine %s set %s = ''''; alter routine %1$s volatile;', r.object, $1 ->> 'setting')
         from routine r
         where (r.body ~* ('set_config\\s*\\(\\s*(''' || replace($1 ->> 'setting', '.', '\\.') || '''|[^''\\s])')
                or r.body ~* ('\\mset\\s+(local\\s+|session\\s+)?' || replace($1 ->> 'setting', '.', '\\.')))
           and (r.provolatile <> 'v'
                or not coalesce(r.proconfig, '{}') && array[($1 ->> 'setting') || '=', ($1 ->> 'setting') || '=\"\"'])",
    ),
    // Inlinable, or each row costs a call: SQL, stable, no clause of its own.
    error(
        "context-function",
        "select $1 ->> 'context_function',
                case when c.oid is null then 'the function does not exist'
                     else 'is not a plain stable sql function that returns uuid' end,
                format('create or replace function %s() returns uuid language sql stable parallel safe
                        return nullif(current_setting(%L, true), '''')::uuid;',
                       $1 ->> 'context_function', $1 ->> 'setting')
         from context c
         where (c.provolatile = 's' and not c.prosecdef and c.proconfig is null and c.prorettype = 'uuid'::regtype
                and (select lanname from pg_language l where l.oid = c.prolang) = 'sql') is not true",
    ),
];
