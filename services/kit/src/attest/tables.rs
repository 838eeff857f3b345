//! Rules on what holds and shows rows: tables, partitions, views, publications, triggers.
//! Invariant: every way to a row passes the policies of a table that forces them on everybody.

use super::catalog::{Rule, error};

pub(super) const RULES: &[Rule] = &[
    // A misspelled schema would otherwise pass for one without faults.
    error(
        "schema-missing",
        "select s.schema, 'the schema does not exist',
                format('create schema %I authorization %I, then migrate', s.schema, s.owner)
         from schema_rule s where s.namespace is null",
    ),
    error(
        "tenant-column-missing",
        "select r.object, format('has no column %s', $1 ->> 'tenant_column'),
                format('alter table %s add column %I uuid not null; or list it as a table without tenants'' rows',
                       r.object, $1 ->> 'tenant_column')
         from stored r where r.tenant is null and not r.tenantless",
    ),
    // An entry of the list that has gone stale would take a table of tenants out of every other rule's sight.
    error(
        "tenantless-wrong",
        "select r.object, format('is listed as without tenants'' rows, but has the column %s', $1 ->> 'tenant_column'),
                'take it off the list'
         from stored r where r.tenant is not null and r.tenantless
         union all
         select format('%I.%I', s.schema, t ->> 0), 'is listed as without tenants'' rows, but does not exist',
                'take it off the list'
         from schema_rule s, jsonb_array_elements(s.tenantless) t
         where s.namespace is not null
           and not exists (select from stored r where r.schema = s.schema and r.name = t ->> 0)",
    ),
    error(
        "tenant-column-type",
        "select b.object, format('%s is %s', $1 ->> 'tenant_column', format_type(b.tenant_type, null)),
                format('alter table %s alter column %I type uuid using %2$I::uuid;', b.object, $1 ->> 'tenant_column')
         from bound b where b.tenant_stored_as <> 'uuid'::regtype",
    ),
    // A caller that forgets the tenant would write into another's rows, or trust a column to say whose a row is.
    error(
        "tenant-default",
        "select b.object, format('%s is filled in by %s', $1 ->> 'tenant_column', pg_get_expr(d.adbin, d.adrelid)),
                case when a.attgenerated = ''
                     then format('alter table %s alter column %I drop default;', b.object, a.attname)
                     else format('alter table %s alter column %I drop expression;', b.object, a.attname) end
         from bound b
         join pg_attribute a on a.attrelid = b.oid and a.attnum = b.tenant
         join pg_attrdef d on d.adrelid = b.oid and d.adnum = b.tenant
         cross join context c
         where pg_get_expr(d.adbin, d.adrelid) is distinct from c.call",
    ),
    // A row of no tenant is checked by no foreign key (match simple) and found by nobody.
    error(
        "tenant-column-nullable",
        "select b.object, format('%s can be null', $1 ->> 'tenant_column'),
                format('alter table %s alter column %I set not null;', b.object, $1 ->> 'tenant_column')
         from bound b
         where not b.tenant_not_null
           and not exists (select from shared h where (h.schema, h.name) = (b.schema, b.name) and h.tenant is null)",
    ),
    // A partition named directly is not covered by its parent's policies.
    error(
        "rls-not-enabled",
        "select b.object, 'row-level security is not enabled',
                format('alter table %s enable row level security;', b.object)
         from bound b where not b.enabled",
    ),
    error(
        "rls-not-forced",
        "select b.object, 'row-level security does not bind the owner',
                format('alter table %s force row level security;', b.object)
         from bound b where not b.forced",
    ),
    error(
        "owner-wrong",
        "select r.object, format('belongs to %s and not to %s', r.relowner::regrole, r.owner),
                format('alter table %s owner to %I;', r.object, r.owner)
         from relation r where r.kind <> 'S' and r.relowner is distinct from to_regrole(quote_ident(r.owner))",
    ),
    // Policies of a foreign table are never applied.
    error(
        "foreign-table",
        "select r.object, 'is a foreign table, which row-level security does not cover',
                format('drop foreign table %s;', r.object)
         from relation r where r.kind = 'f'",
    ),
    // A read through a parent applies the parent's policies alone, so both ends must be in sight.
    error(
        "inheritance-elsewhere",
        "select i.inhrelid::regclass::text, format('inherits from %s across schemas', i.inhparent::regclass),
                'keep a table, its parents and its partitions in one schema'
         from pg_inherits i
         join pg_class child on child.oid = i.inhrelid
         join pg_class parent on parent.oid = i.inhparent
         where child.relnamespace <> parent.relnamespace and child.relkind not in ('i', 'I')
           and (i.inhrelid in (select oid from stored) or i.inhparent in (select oid from stored))",
    ),
    // Any other view reads with the rights of its owner, wherever it lives.
    error(
        "view-not-invoker",
        "select c.oid::regclass::text, 'reads with the rights of its owner',
                format('alter view %s set (security_invoker = true);', c.oid::regclass)
         from reader r join pg_class c on c.oid = r.oid
         where c.relkind = 'v'
           and not exists (select from pg_options_to_table(c.reloptions)
                           where option_name = 'security_invoker' and option_value::boolean)",
    ),
    error(
        "materialized-view",
        "select c.oid::regclass::text, 'is a materialized view, whose rows no policy covers',
                format('drop materialized view %s;', c.oid::regclass)
         from reader r join pg_class c on c.oid = r.oid where c.relkind = 'm'",
    ),
    // The statement of a rule runs with the rights of the table's owner.
    error(
        "rewrite-rule",
        "select c.oid::regclass::text, format('the rule %s acts with the rights of the owner', w.rulename),
                format('drop rule %I on %s;', w.rulename, c.oid::regclass)
         from reader r
         join pg_class c on c.oid = r.oid
         join pg_rewrite w on w.ev_class = r.oid
         where w.rulename <> '_RETURN'",
    ),
    error(
        "trigger-elsewhere",
        "select b.object, format('the trigger %s calls %s, which this schema does not hold',
                                 t.tgname, t.tgfoid::regprocedure),
                format('drop trigger %I on %s;', t.tgname, b.object)
         from stored b
         join pg_trigger t on t.tgrelid = b.oid and not t.tgisinternal and t.tgparentid = 0
         join pg_proc p on p.oid = t.tgfoid
         where p.pronamespace not in (b.namespace, 'pg_catalog'::regnamespace)
           and not exists (select from pg_depend d
                           where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')",
    ),
    error(
        "publication-unfiltered",
        "select b.object, format('the publication %s hands out the rows of all tenants', p.pubname),
                case when exists (select from pg_publication_rel r
                                  join pg_publication o on o.oid = r.prpubid
                                  where o.pubname = p.pubname and r.prrelid = b.oid)
                     then format('alter publication %I drop table %s;', p.pubname, b.object)
                     else 'publish table by table, each with a row filter by tenant' end
         from pg_publication_tables p
         join bound b on b.schema = p.schemaname and b.name = p.tablename
         where p.rowfilter !~ format('^\\(%I = ''[0-9a-f-]{36}''::uuid\\)$', $1 ->> 'tenant_column') is not false",
    ),
];
