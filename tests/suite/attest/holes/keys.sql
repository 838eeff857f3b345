-- Changes to ledger.sql that open a hole each, in keys and indexes.
-- A line `-- change:` begins one; `-- raises:` names the rules that must say so, these and no others.

-- change: an id that is unique over all tenants
-- raises: key-not-by-tenant
create table ledger.note (id uuid primary key, tenant_id uuid not null);
create index on ledger.note (tenant_id);
alter table ledger.note owner to {run}_owner;
alter table ledger.note enable row level security;
alter table ledger.note force row level security;

-- change: a code that is unique over all tenants
-- raises: key-not-by-tenant
alter table ledger.client add unique (code);

-- change: a unique index by an expression
-- raises: key-not-by-tenant
create unique index on ledger.client (lower(code), tenant_id);

-- change: a unique slug where the serving role no longer sees all rows
-- raises: grant-without-policy, key-not-by-tenant
drop policy control_plane on ledger.tenant;

-- change: an exclusion constraint over all tenants
-- raises: exclusion-not-by-tenant
alter table ledger.project add exclude using gist (id with =, client_id with <>);

-- change: an exclusion constraint that only keeps tenants apart
-- raises: exclusion-not-by-tenant
alter table ledger.project add exclude using gist (tenant_id with <>, id with =);

-- change: an exclusion constraint that a partition lacks
-- raises: exclusion-incomplete
alter table ledger.time_entry_1 drop constraint time_entry_1_overlap_excl;

-- change: an exclusion constraint over rows that partitions keep apart
-- raises: exclusion-incomplete
create table ledger.shift (tenant_id uuid, id uuid, day date, primary key (tenant_id, id, day))
    partition by range (day);
create table ledger.shift_2026 partition of ledger.shift
    (exclude using gist (tenant_id with =, id with =)) for values from ('2026-01-01') to ('2027-01-01');
alter table ledger.shift owner to {run}_owner;
alter table ledger.shift enable row level security;
alter table ledger.shift force row level security;
alter table ledger.shift_2026 owner to {run}_owner;
alter table ledger.shift_2026 enable row level security;
alter table ledger.shift_2026 force row level security;

-- change: a table that only a full read finds a tenant's rows in
-- raises: tenant-index-missing
create table ledger.note (tenant_id uuid not null, text text not null);
alter table ledger.note owner to {run}_owner;
alter table ledger.note enable row level security;
alter table ledger.note force row level security;

-- change: a foreign key of one column
-- raises: foreign-key-not-by-tenant, key-not-by-tenant
alter table ledger.client add constraint client_id_key unique (id);
alter table ledger.project add foreign key (client_id) references ledger.client (id);

-- change: a foreign key that takes another column for the tenant
-- raises: foreign-key-not-by-tenant
alter table ledger.outbox add foreign key (event_id, tenant_id) references ledger.client (tenant_id, id);

-- change: a foreign key from a table that all tenants share
-- raises: foreign-key-not-by-tenant
alter table ledger.feature_flag add owner_tenant uuid references ledger.tenant (tenant_id);

-- change: a foreign key from elsewhere
-- raises: foreign-key-not-by-tenant
create table public.copy (tenant uuid, id uuid, foreign key (tenant, id) references ledger.client (tenant_id, id));

-- change: a foreign key that sets the tenant to null
-- raises: foreign-key-moves-tenant
alter table ledger.project drop constraint project_parent_fkey;
alter table ledger.project add constraint project_parent_fkey
    foreign key (tenant_id, parent_id) references ledger.project (tenant_id, id) on delete set null;

-- change: a foreign key that moves rows to another tenant
-- raises: foreign-key-moves-tenant
alter table ledger.project drop constraint project_parent_fkey;
alter table ledger.project add constraint project_parent_fkey
    foreign key (tenant_id, parent_id) references ledger.project (tenant_id, id) on update cascade;

-- change: foreign keys that a bulk load left switched off
-- raises: foreign-key-off
alter table ledger.time_entry_0 disable trigger all;

-- change: a foreign key that was never checked
-- raises: foreign-key-not-valid
alter table ledger.project drop constraint project_parent_fkey;
alter table ledger.project add constraint project_parent_fkey
    foreign key (tenant_id, parent_id) references ledger.project (tenant_id, id) not valid;

-- change: a foreign key without an index
-- raises: foreign-key-unindexed
drop index ledger.project_client_idx;

-- change: a foreign key whose index leaves rows out
-- raises: foreign-key-unindexed
drop index ledger.project_client_idx;
create index on ledger.project (tenant_id, client_id) where not closed;

-- change: a foreign key that removes rows of other tenants
-- raises: foreign-key-not-by-tenant, key-not-by-tenant
alter table ledger.client add constraint client_id_key unique (id);
alter table ledger.project add foreign key (client_id) references ledger.client (id) on delete cascade;

-- change: a key over all tenants that is checked late
-- raises: key-not-by-tenant
alter table ledger.client add constraint client_code_once unique (code) deferrable initially deferred;

-- change: an index that leads with something else
-- raises: index-not-by-tenant
create index on ledger.project (closed);

-- change: an index of another method, over all tenants
-- raises: index-not-by-tenant
create index on ledger.time_entry using gist (span);

-- change: numbers that all tenants draw from
-- raises: key-by-counter
create table ledger.invoice (
    tenant_id uuid   not null,
    number    bigint not null generated always as identity,
    primary key (tenant_id, number)
);
alter table ledger.invoice owner to {run}_owner;
alter table ledger.invoice enable row level security;
alter table ledger.invoice force row level security;
create policy tenant_isolation on ledger.invoice for select to {run}_app
    using (tenant_id = app.current_tenant_id());
grant select on ledger.invoice to {run}_app;
