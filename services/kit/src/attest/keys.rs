//! Rules on keys and indexes, which PostgreSQL checks without row-level security.
//! Invariant: a key compares rows of one tenant only; any other is an oracle of existence or a link across tenants.

use super::catalog::{Rule, error, warning};

pub(super) const RULES: &[Rule] = &[
    // A role that sees every row of the table anyway learns nothing from a key.
    error(
        "key-not-by-tenant",
        "select b.object, format('the unique key %s spans tenants', c.relname),
                case when exists (select from pg_constraint f where f.conindid = i.indexrelid and f.contype = 'f')
                     then 'make it unique by the tenant first, and the foreign keys that refer to it too'
                     when k.conname is null
                     then format('drop index %s; create unique index on %s (%s);', c.oid::regclass, b.object, n.columns)
                     else format('alter table %s drop constraint %I, add %s (%s);', b.object, k.conname,
                                 case k.contype when 'p' then 'primary key' else 'unique' end, n.columns) end
         from bound b
         join pg_index i on i.indrelid = b.oid and i.indisunique and i.indkey[0] <> b.tenant
         join pg_class c on c.oid = i.indexrelid
         left join pg_constraint k on k.conindid = c.oid and k.contype in ('p', 'u')
         cross join lateral (
             select concat_ws(', ', quote_ident($1 ->> 'tenant_column'),
                              string_agg(pg_get_indexdef(i.indexrelid, p, true), ', ' order by p)) as columns
             from generate_series(1, i.indnkeyatts) p where i.indkey[p - 1] <> b.tenant) n
         where not exists (select from pg_inherits h where h.inhrelid = i.indexrelid)
           and not exists (select from policy p
                           where p.oid = b.oid and p.permissive and p.role = b.app and p.command = 'select'
                             and p.seen = 'true')",
    ),
    // The order of the columns does not matter to what an exclusion constraint compares.
    error(
        "exclusion-not-by-tenant",
        "select x.object, format('the exclusion constraint %s spans tenants', x.conname),
                format('add `%I with =` to it', $1 ->> 'tenant_column')
         from exclusion x where not x.is_copy and x.tenant <> all(x.equal)",
    ),
    // A constraint on one partition compares only the rows of that partition. It is complete when two rows that could
    // conflict always share a partition (its equal columns include the partition key), and every partition has it.
    error(
        "exclusion-incomplete",
        "select x.object, format('the exclusion constraint %s misses rows of other partitions', x.conname),
                'partition by columns that it compares with ='
         from exclusion x
         where x.is_partition and not x.is_copy
           and exists (select from pg_partition_ancestors(x.oid) h
                       join pg_partitioned_table t on t.partrelid = h.relid
                       cross join unnest(t.partattrs::int2[]) as k (attnum)
                       where h.relid <> x.oid
                         and not exists (select from pg_attribute mine
                                         join pg_attribute theirs
                                             on theirs.attrelid = h.relid and theirs.attnum = k.attnum
                                         where mine.attrelid = x.oid and mine.attnum = any(x.equal)
                                           and mine.attname = theirs.attname))
         union all
         select leaf.relid::regclass::text, format('lacks the exclusion constraint that %s has', x.object),
                format('alter table %s add %s;', leaf.relid::regclass, x.definition)
         from (select root, definition, min(object) as object from exclusion where is_partition group by 1, 2) x
         cross join pg_partition_tree(x.root) leaf
         where leaf.isleaf and leaf.relid in (select oid from bound)
           and not exists (select from exclusion o where o.oid = leaf.relid and o.definition = x.definition)",
    ),
    warning(
        "tenant-index-missing",
        "select b.object, format('no index leads with %s', $1 ->> 'tenant_column'),
                format('create index on %s (%I);', b.object, $1 ->> 'tenant_column')
         from bound b
         where not exists (select from pg_index i
                           where i.indrelid = b.oid and i.indkey[0] = b.tenant and i.indisvalid and i.indpred is null)",
    ),
    // A role that reads every tenant's rows has a use for an index over them; within one tenant it reads too much.
    warning(
        "index-not-by-tenant",
        "select b.object, format('the index %s does not lead with %s', c.relname, $1 ->> 'tenant_column'),
                case m.amname when 'btree'
                     then format('drop index %s; %s;', c.oid::regclass,
                                 regexp_replace(pg_get_indexdef(c.oid), ' USING btree \\(',
                                                format(' USING btree (%I, ', $1 ->> 'tenant_column')))
                     else 'begin it with the tenant: the extension btree_gist or btree_gin gives the operators' end
         from bound b
         join pg_index i on i.indrelid = b.oid and not i.indisunique and not i.indisexclusion and i.indkey[0] <> b.tenant
         join pg_class c on c.oid = i.indexrelid
         join pg_am m on m.oid = c.relam
         where not exists (select from pg_inherits h where h.inhrelid = c.oid)
           and not exists (select from exemption e
                           where (e.schema, e.name, e.command) = (b.schema, b.name, 'select'))",
    ),
    // A number that all tenants draw from tells each how many the others drew.
    warning(
        "key-by-counter",
        "select distinct b.object, format('%s of the key %s counts over all tenants', a.attname, c.relname),
                'make ids that say nothing of each other, such as uuids'
         from bound b
         join pg_index i on i.indrelid = b.oid and i.indisunique
         join pg_class c on c.oid = i.indexrelid
         join pg_attribute a on a.attrelid = b.oid and a.attnum = any(i.indkey)
         left join pg_attrdef d on d.adrelid = b.oid and d.adnum = a.attnum
         where (a.attidentity <> '' or pg_get_expr(d.adbin, d.adrelid) ~ '^nextval\\(')
           and not exists (select from pg_inherits h where h.inhrelid = i.indexrelid)
           and exists (select from granted g where g.oid = b.oid and g.role = quote_ident(b.app) and g.verb = 'SELECT')",
    ),
    // To a table without tenants' rows a key of its own columns is right: there is nothing to find out.
    error(
        "foreign-key-not-by-tenant",
        "select f.object, format('the foreign key %s reaches across tenants in %s', f.conname, f.referenced),
                format('begin it with %I on both sides, and the key of %s too', $1 ->> 'tenant_column', f.referenced)
         from foreign_key f
         where (f.tenant is not null or f.referenced_tenant is not null) and not f.to_tenantless
           and (f.conkey[1] = f.tenant and f.confkey[1] = f.referenced_tenant) is not true",
    ),
    // The actions of a foreign key run without policies.
    error(
        "foreign-key-moves-tenant",
        "select f.object, format('the foreign key %s can change %s of a row', f.conname, $1 ->> 'tenant_column'),
                format('alter table %s drop constraint %I, add constraint %2$I %s;', f.object, f.conname,
                       regexp_replace(pg_get_constraintdef(f.oid),
                                      ' ON (UPDATE|DELETE) (CASCADE|SET (NULL|DEFAULT)( \\([^)]*\\))?)', '', 'g'))
         from foreign_key f
         where f.tenant = any(f.conkey)
           and (f.confupdtype in ('c', 'n', 'd')
                or f.confdeltype in ('n', 'd')
                   and (f.confdelsetcols is null or f.tenant = any(f.confdelsetcols)))",
    ),
    error(
        "foreign-key-off",
        "select f.object, format('the foreign key %s is not enforced', f.conname),
                format('alter table %s alter constraint %I enforced;', f.object, f.conname)
         from foreign_key f where f.unenforced
         union all
         select distinct b.object, format('the foreign key %s is not enforced', f.conname),
                format('alter table %s enable trigger all;', b.object)
         from bound b
         join pg_trigger t on t.tgrelid = b.oid and t.tgenabled not in ('O', 'A')
         join pg_constraint f on f.oid = t.tgconstraint and f.contype = 'f'",
    ),
    warning(
        "foreign-key-not-valid",
        "select f.object, format('the foreign key %s was not checked for the rows of before', f.conname),
                format('alter table %s validate constraint %I;', f.object, f.conname)
         from foreign_key f where not f.convalidated and f.unenforced is not true",
    ),
    // Without it each delete of a referenced row reads the whole table, rows of all tenants, under a lock.
    warning(
        "foreign-key-unindexed",
        "select f.object, format('no index supports the foreign key %s', f.conname),
                format('create index on %s (%s);', f.object,
                       (select string_agg(quote_ident(a.attname), ', ' order by k.position)
                        from unnest(f.conkey) with ordinality as k (attnum, position)
                        join pg_attribute a on a.attrelid = f.conrelid and a.attnum = k.attnum))
         from foreign_key f
         where f.conkey[1] = f.tenant
           and not exists (select from pg_index i
                           where i.indrelid = f.conrelid and i.indisvalid and i.indkey[0] = f.tenant
                             and (i.indkey::int2[])[0:cardinality(f.conkey) - 1] @> f.conkey
                             and (i.indpred is null
                                  or pg_get_expr(i.indpred, i.indrelid) in
                                     (select format('(%I IS NOT NULL)', a.attname) from pg_attribute a
                                      where a.attrelid = f.conrelid and a.attnum = any(f.conkey))))",
    ),
];
