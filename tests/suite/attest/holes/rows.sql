-- Changes to ledger.sql that open a hole each, in what holds and shows rows.
-- A line `-- change:` begins one; `-- raises:` names the rules that must say so, these and no others.

-- change: row security that does not bind the owner
-- raises: rls-not-forced
alter table ledger.client no force row level security;

-- change: no row security
-- raises: open-without-context, rls-not-enabled
alter table ledger.client disable row level security;

-- change: a partition without row security
-- raises: rls-not-enabled
alter table ledger.time_entry_1 disable row level security;

-- change: a partition that binds all but its owner
-- raises: rls-not-forced
alter table ledger.time_entry_0 no force row level security;

-- change: a new partition, the way it is usually added
-- raises: exclusion-incomplete, rls-not-enabled, rls-not-forced
alter table ledger.time_entry detach partition ledger.time_entry_1;
drop table ledger.time_entry_1;
create table ledger.time_entry_1 partition of ledger.time_entry for values with (modulus 2, remainder 1);
alter table ledger.time_entry_1 owner to {run}_owner;

-- change: a table without tenants that nobody listed
-- raises: tenant-column-missing
create table ledger.note (id uuid primary key);
alter table ledger.note owner to {run}_owner;

-- change: a tenant that may be null
-- raises: tenant-column-nullable
create table ledger.note (tenant_id uuid, id uuid);
create index on ledger.note (tenant_id);
alter table ledger.note owner to {run}_owner;
alter table ledger.note enable row level security;
alter table ledger.note force row level security;

-- change: a tenant that is text
-- raises: tenant-column-type
create table ledger.note (tenant_id text not null, id uuid not null, primary key (tenant_id, id));
alter table ledger.note owner to {run}_owner;
alter table ledger.note enable row level security;
alter table ledger.note force row level security;

-- change: a table listed as without tenants that has got them
-- raises: grant-without-policy, key-not-by-tenant, open-without-context, rls-not-enabled, rls-not-forced, tenant-index-missing, tenantless-wrong
alter table ledger.feature_flag add tenant_id uuid not null default gen_random_uuid();
alter table ledger.feature_flag alter tenant_id drop default;

-- change: a list that names a table of the past
-- raises: tenantless-wrong
alter table ledger.project drop constraint project_flag_fkey;
drop table ledger.feature_flag;

-- change: the serving role owns a table
-- raises: owner-wrong, role-owns
grant create on schema ledger to {run}_app;
alter table ledger.outbox owner to {run}_app;
revoke create on schema ledger from {run}_app;

-- change: the administrator owns a table
-- raises: owner-wrong
alter table ledger.feature_flag owner to current_user;

-- change: the serving role owns the schema
-- raises: owner-serves, role-creates, role-owns
alter schema ledger owner to {run}_app;

-- change: a schema under another name
-- raises: role-elsewhere, schema-missing, security-definer
alter schema ledger rename to lager;

-- change: a foreign table
-- raises: foreign-table
create foreign data wrapper far;
create server away foreign data wrapper far;
create foreign table ledger.remote (tenant_id uuid not null) server away;
alter foreign table ledger.remote owner to {run}_owner;

-- change: a parent elsewhere that shows the rows of its child
-- raises: inheritance-elsewhere
create table public.everything (tenant_id uuid not null);
alter table ledger.client inherit public.everything;

-- change: a partition elsewhere, out of sight
-- raises: inheritance-elsewhere
alter table ledger.time_entry detach partition ledger.time_entry_1;
drop table ledger.time_entry_1;
create table public.time_entry_1 partition of ledger.time_entry for values with (modulus 2, remainder 1);
alter table public.time_entry_1
    add constraint overlap_excl exclude using gist (tenant_id with =, project_id with =, span with &&);

-- change: a view that reads as its owner
-- raises: view-not-invoker
create view ledger.project_name as select tenant_id, id from ledger.project;
alter view ledger.project_name owner to {run}_owner;

-- change: a view that was told to read as its owner
-- raises: view-not-invoker
alter view ledger.open_project set (security_invoker = false);

-- change: a view elsewhere over a view
-- raises: view-not-invoker
create view public.report as select count(*) from ledger.open_project;

-- change: a materialized view
-- raises: materialized-view
create materialized view ledger.project_count as select count(*) from ledger.project;
alter materialized view ledger.project_count owner to {run}_owner;

-- change: a materialized view elsewhere
-- raises: materialized-view
create materialized view public.project_count as select tenant_id, count(*) from ledger.project group by tenant_id;

-- change: a rule that copies what is written
-- raises: rewrite-rule
create rule copied as on insert to ledger.client
    do also insert into ledger.industry_code values (new.tenant_id, new.code);

-- change: a trigger that calls another schema
-- raises: trigger-elsewhere
create function public.copied() returns trigger language plpgsql as $$ begin return new; end $$;
create trigger copied after insert on ledger.client for each row execute function public.copied();

-- change: a publication of a table
-- raises: publication-unfiltered
create publication feed for table ledger.client;

-- change: a publication of the schema
-- raises: publication-unfiltered
create publication feed for tables in schema ledger;

-- change: a publication of everything
-- raises: publication-unfiltered
create publication feed for all tables;

-- change: a policy for every role
-- raises: policy-to-public
drop policy tenant_isolation on ledger.client;
create policy tenant_isolation on ledger.client
    using (tenant_id = app.current_tenant_id()) with check (tenant_id = app.current_tenant_id());

-- change: a policy that opens the table to every role
-- raises: open-without-context, policy-not-tenant, policy-to-public
create policy open on ledger.client for select using (true);

-- change: a policy for a role from elsewhere
-- raises: policy-to-stranger
create policy reporting on ledger.client for select to {run}_stranger using (tenant_id = app.current_tenant_id());

-- change: a second policy that opens the table
-- raises: open-without-context, policy-not-tenant
create policy support on ledger.client for select to {run}_app using (true);

-- change: a second policy that opens some rows
-- raises: policy-not-tenant
create policy archive on ledger.project for select to {run}_app using (closed);

-- change: a second policy that lets any row be written
-- raises: policy-not-tenant
create policy adds on ledger.client for insert to {run}_app with check (true);

-- change: a policy that checks nothing of what is written
-- raises: policy-not-tenant
alter policy tenant_isolation on ledger.client with check (true);

-- change: a policy that opens the table when there is no tenant
-- raises: open-without-context, policy-not-tenant
alter policy tenant_isolation on ledger.client
    using (app.current_tenant_id() is null or tenant_id = app.current_tenant_id());

-- change: a policy by the naive cast, which fails after the first commit
-- raises: open-without-context, policy-not-tenant
alter policy tenant_isolation on ledger.client
    using (tenant_id = current_setting('app.current_tenant_id')::uuid)
    with check (tenant_id = current_setting('app.current_tenant_id')::uuid);

-- change: a policy by the name of the session's user
-- raises: policy-not-tenant
alter policy tenant_isolation on ledger.client using (tenant_id::text = current_user);

-- change: a policy that opens every partition at each read
-- raises: policy-not-tenant
alter policy tenant_isolation on ledger.time_entry using (tenant_id = (select app.current_tenant_id()));

-- change: an exemption used beyond its commands
-- raises: policy-not-tenant
create policy relay_update on ledger.outbox for update to {run}_relay using (true) with check (true);

-- change: an exemption used on another table
-- raises: open-without-context, policy-not-tenant
create policy support on ledger.client for select to {run}_relay, {run}_app using (true);

-- change: a shared row that a tenant may remove
-- raises: policy-not-tenant
alter policy tenant_removes on ledger.industry_code
    using (tenant_id = app.current_tenant_id() or tenant_id = '00000000-0000-7000-8000-000000000001');

-- change: a policy with USING alone
-- raises: policy-without-check
drop policy tenant_isolation on ledger.client;
create policy tenant_isolation on ledger.client to {run}_app using (tenant_id = app.current_tenant_id());

-- change: rights without any policy
-- raises: grant-without-policy
drop policy tenant_isolation on ledger.client;

-- change: a right that no policy covers
-- raises: grant-without-policy
grant update on ledger.industry_code to {run}_app;

-- change: a right on one column that no policy covers
-- raises: grant-without-policy
grant update (code) on ledger.industry_code to {run}_app;

-- change: a table that every role may read
-- raises: granted-to-public
grant select on ledger.client to public;

-- change: a schema that every role may use
-- raises: granted-to-public
grant usage on schema ledger to public;

-- change: a function that every role may call, as is the default
-- raises: function-to-public
create function ledger.one() returns integer language sql return 1;

-- change: a table that a role from elsewhere may read
-- raises: granted-to-stranger
grant select on ledger.client to {run}_stranger;

-- change: a function that a role from elsewhere may call
-- raises: granted-to-stranger
grant execute on function ledger.find_client to {run}_stranger;

-- change: TRUNCATE, which ignores policies
-- raises: granted-too-much
grant truncate on ledger.client to {run}_app;

-- change: REFERENCES on a column
-- raises: granted-too-much
grant references (id) on ledger.client to {run}_app;

-- change: TRIGGER for the relay
-- raises: granted-too-much
grant trigger on ledger.outbox to {run}_relay;

-- change: all rights at once
-- raises: granted-too-much, grant-without-policy
grant all on ledger.industry_code to {run}_app;

-- change: a right to hand on
-- raises: granted-too-much
grant select on ledger.client to {run}_app with grant option;

-- change: a partition within reach
-- raises: partition-granted
grant select on ledger.time_entry_0 to {run}_app;

-- change: shared rows that a request may change
-- raises: tenantless-written
grant update on ledger.feature_flag to {run}_app;

-- change: a counter that tells how much others write
-- raises: sequence-granted
grant usage on sequence ledger.outbox_seq_seq to {run}_app;

-- change: rights by default on tables to come
-- raises: default-privileges
alter default privileges for role {run}_owner in schema ledger grant select on tables to {run}_app;

-- change: a tenant that is filled in for whoever forgets it
-- raises: tenant-default
alter table ledger.client alter tenant_id set default '11111111-1111-7111-8111-111111111111';

-- change: a tenant that is made of what the caller writes
-- raises: tenant-default
create table ledger.note (
    owner_code text not null,
    tenant_id  uuid not null generated always as (md5(owner_code)::uuid) stored,
    primary key (tenant_id, owner_code)
);
alter table ledger.note owner to {run}_owner;
alter table ledger.note enable row level security;
alter table ledger.note force row level security;

-- change: a publication whose filter leaves every tenant in
-- raises: publication-unfiltered
create publication feed for table ledger.client where (tenant_id is not null);

-- change: a table that inherits rows and not their policies
-- raises: rls-not-enabled, rls-not-forced, tenant-index-missing
create table ledger.former_client () inherits (ledger.client);
alter table ledger.former_client owner to {run}_owner;

-- change: a partition with policies of its own that show all
-- raises: policy-not-tenant
create policy open on ledger.time_entry_0 for select to {run}_app using (true);
