//! Rules on keys and indexes, which PostgreSQL checks without row-level security.
//! Invariant: a key compares rows of one tenant only; any other is an oracle of existence or a link across tenants.

use super::catalog::{Rule, error, warning};

pub(super) const RULES: &[Rule] = &[
    // A role that sees every row of the table anyway learns nothing from a key.
    error(
        "key-not-by-tenant",
        "select b.object, format('the unique key %s spans tenants', c.relname),
                format('make it unique (%s)',
                       concat_ws(', ', quote_ident($1 ->> 'tenant_column'),
                                 (select string_agg(pg_get_indexdef(i.indexrelid, k, true), ', ' order by k)
                                  from generate_series(1, i.indnkeyatts) k where i.indkey[k - 1] <> b.tenant)))
         from bound b
         join pg_index i on i.indrelid = b.oid and i.indisunique and i.indkey[0] <> b.tenant
         join pg_class c on c.oid = i.indexrelid
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
                format('alter table %s add %s', leaf.relid::regclass, x.definition)
         from (select root, definition, min(object) as object from exclusion where is_partition group by 1, 2) x
         cross join pg_partition_tree(x.root) leaf
         where leaf.isleaf and leaf.relid in (select oid from bound)
           and not exists (select from exclusion o where o.oid = leaf.relid and o.definition = x.definition)",
    ),
    warning(
        "tenant-index-missing",
        "select b.object, format('no index leads with %s', $1 ->> 'tenant_column'),
                format('create index on %s (%I)', b.object, $1 ->> 'tenant_column')
         from bound b
         where not exists (select from pg_index i
                           where i.indrelid = b.oid and i.indkey[0] = b.tenant and i.indisvalid and i.indpred is null)",
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
                'use no action, or `on delete set null (…)` that names the other columns'
         from foreign_key f
         where f.tenant = any(f.conkey)
           and (f.confupdtype in ('c', 'n', 'd')
                or f.confdeltype in ('n', 'd')
                   and (f.confdelsetcols is null or f.tenant = any(f.confdelsetcols)))",
    ),
    error(
        "foreign-key-off",
        "select f.object, format('the foreign key %s is not enforced', f.conname),
                format('alter table %s alter constraint %I enforced', f.object, f.conname)
         from foreign_key f where f.unenforced
         union all
         select distinct b.object, format('the foreign key %s is not enforced', f.conname),
                format('alter table %s enable trigger all', b.object)
         from bound b
         join pg_trigger t on t.tgrelid = b.oid and t.tgenabled not in ('O', 'A')
         join pg_constraint f on f.oid = t.tgconstraint and f.contype = 'f'",
    ),
    warning(
        "foreign-key-not-valid",
        "select f.object, format('the foreign key %s was not checked for the rows of before', f.conname),
                format('alter table %s validate constraint %I', f.object, f.conname)
         from foreign_key f where not f.convalidated and f.unenforced is not true",
    ),
    // Without it each delete of a referenced row reads the whole table, rows of all tenants, under a lock.
    warning(
        "foreign-key-unindexed",
        "select f.object, format('no index supports the foreign key %s', f.conname),
                format('create index on %s (%s)', f.object,
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
