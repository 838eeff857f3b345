-- Changes to ledger.sql that leave it as sound as it was. A line `-- change:` begins each.

-- change: nothing at all
select;

-- change: a table without rights and policies
create table ledger.note (tenant_id uuid not null, id uuid not null, primary key (tenant_id, id));
alter table ledger.note owner to {run}_owner;
alter table ledger.note enable row level security;
alter table ledger.note force row level security;

-- change: a policy for each command
drop policy tenant_isolation on ledger.client;
create policy reads on ledger.client for select to {run}_app using (tenant_id = app.current_tenant_id());
create policy adds on ledger.client for insert to {run}_app with check (tenant_id = app.current_tenant_id());
create policy changes on ledger.client for update to {run}_app
    using (tenant_id = app.current_tenant_id()) with check (tenant_id = app.current_tenant_id());
create policy removes on ledger.client for delete to {run}_app using (tenant_id = app.current_tenant_id());

-- change: a restrictive policy for every role
create policy only_open on ledger.project as restrictive using (not closed);

-- change: the relay bound to a tenant where it has no exemption
create policy relay_isolation on ledger.client for select to {run}_relay
    using (tenant_id = app.current_tenant_id());
grant select on ledger.client to {run}_relay;

-- change: a unique key over all partitions
alter table ledger.time_entry add unique (tenant_id, project_id, span);

-- change: a new partition with all that it needs
alter table ledger.time_entry detach partition ledger.time_entry_1;
drop table ledger.time_entry_1;
create table ledger.time_entry_1 partition of ledger.time_entry for values with (modulus 2, remainder 1);
alter table ledger.time_entry_1 owner to {run}_owner;
alter table ledger.time_entry_1 enable row level security;
alter table ledger.time_entry_1 force row level security;
alter table ledger.time_entry_1
    add constraint renamed_excl exclude using gist (tenant_id with =, project_id with =, span with &&);

-- change: a publication with a row filter
create publication feed for table ledger.client where (tenant_id = '11111111-1111-7111-8111-111111111111');

-- change: a publication of what all tenants share
create publication feed for table ledger.feature_flag;

-- change: another trigger of the schema's own
create trigger kept after insert on ledger.client for each row execute function ledger.keep_slug();

-- change: a view on a view
create view ledger.open_id with (security_invoker = on) as select tenant_id, id from ledger.open_project;
alter view ledger.open_id owner to {run}_owner;
grant select on ledger.open_id to {run}_app;

-- change: time limits and planning set for the serving role
alter role {run}_app set statement_timeout = '9s';
alter role {run}_app set plan_cache_mode = force_generic_plan;

-- change: defaults that only take rights away
alter default privileges for role {run}_owner revoke execute on functions from public;

-- change: the right to connect
grant connect on database {run} to {run}_app, {run}_relay;

-- change: a function that asks for the context and writes by it
create function ledger.close_all() returns void language sql
    begin atomic
        update ledger.project set closed = true where tenant_id = app.current_tenant_id();
    end;
alter function ledger.close_all() owner to {run}_owner;
revoke execute on function ledger.close_all() from public;
grant execute on function ledger.close_all() to {run}_app;

-- change: a tenant that a default fills in
alter table ledger.client alter tenant_id set default app.current_tenant_id();

-- change: another schema with rules of its own
create schema warehouse;
create table warehouse.fact (id bigint primary key);
create view warehouse.total as select count(*) from warehouse.fact;
