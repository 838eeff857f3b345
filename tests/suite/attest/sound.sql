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

-- change: a policy written the other way around
alter policy tenant_isolation on ledger.client using (app.current_tenant_id() = tenant_id);

-- change: a policy with its cast spelled out
alter policy tenant_isolation on ledger.client
    using (tenant_id = cast(app.current_tenant_id() as uuid)) with check (tenant_id::uuid = app.current_tenant_id());

-- change: a policy that reads the setting itself
alter policy tenant_isolation on ledger.client
    using (tenant_id = nullif(current_setting('app.current_tenant_id', true), '')::uuid);

-- change: a policy that says so twice
alter policy tenant_isolation on ledger.client
    using (tenant_id = app.current_tenant_id() and (tenant_id = app.current_tenant_id()) is true);

-- change: a policy that shows fewer rows than the tenant has
alter policy tenant_isolation on ledger.project
    using (tenant_id = app.current_tenant_id() and (not closed or parent_id is null))
    with check (tenant_id = app.current_tenant_id() and client_id <> id);

-- change: a policy of two halves, each of the tenant
alter policy tenant_isolation on ledger.project
    using ((tenant_id = app.current_tenant_id() and closed) or (not closed and app.current_tenant_id() = tenant_id));

-- change: a policy that shows nothing
create policy nothing on ledger.client for select to {run}_app using (false);

-- change: a policy that calls a function of the service beside the tenant
create function ledger.is_open(closed boolean) returns boolean language sql immutable return not closed;
alter function ledger.is_open owner to {run}_owner;
revoke execute on function ledger.is_open from public;
grant execute on function ledger.is_open to {run}_app;
alter policy tenant_isolation on ledger.project using (tenant_id = app.current_tenant_id() and ledger.is_open(closed));

-- change: an open policy that a restrictive one bounds
drop policy tenant_isolation on ledger.client;
create policy everything on ledger.client to {run}_app using (true) with check (true);
create policy tenant_isolation on ledger.client as restrictive to {run}_app
    using (tenant_id = app.current_tenant_id()) with check (tenant_id = app.current_tenant_id());

-- change: shared rows by a list of tenants
alter policy tenant_reads on ledger.industry_code
    using (tenant_id in (app.current_tenant_id(), '00000000-0000-7000-8000-000000000001'));

-- change: shared rows of no tenant
create table ledger.template (tenant_id uuid, id uuid not null, text text not null);
create index on ledger.template (tenant_id, id);
alter table ledger.template owner to {run}_owner;
alter table ledger.template enable row level security;
alter table ledger.template force row level security;
create policy reads on ledger.template for select to {run}_app
    using (tenant_id is null or tenant_id = app.current_tenant_id());
create policy adds on ledger.template for insert to {run}_app with check (tenant_id = app.current_tenant_id());
create policy changes on ledger.template for update to {run}_app
    using (tenant_id = app.current_tenant_id()) with check (tenant_id = app.current_tenant_id());
grant select, insert, update on ledger.template to {run}_app;
insert into ledger.template values (null, gen_random_uuid(), 'for all');

-- change: types of every kind, some of which take no null
create domain ledger.tenant_ref as uuid;
create domain ledger.code as text not null check (value <> '');
create type ledger.mood as enum ('calm', 'busy');
create type ledger.place as (street text, number integer);
create table ledger.note (
    tenant_id ledger.tenant_ref not null,
    id        uuid              not null default gen_random_uuid(),
    code      ledger.code       not null default 'none',
    mood      ledger.mood       not null default 'calm',
    place     ledger.place,
    labels    text[]            not null default '{}',
    length    integer           not null generated always as (cardinality(labels)) stored,
    counter   bigint            not null generated always as identity,
    primary key (tenant_id, id),
    unique (tenant_id, code) deferrable initially deferred
);
alter table ledger.note owner to {run}_owner;
alter table ledger.note enable row level security;
alter table ledger.note force row level security;
create policy tenant_isolation on ledger.note to {run}_app
    using (tenant_id = app.current_tenant_id()) with check (tenant_id = app.current_tenant_id());
grant select, insert on ledger.note to {run}_app;

-- change: a domain whose check knows no tenant but real ones
create domain ledger.tenant_ref as uuid check (value::text like '%-7%');
create table ledger.note (tenant_id ledger.tenant_ref not null, id uuid not null, primary key (tenant_id, id));
alter table ledger.note owner to {run}_owner;
alter table ledger.note enable row level security;
alter table ledger.note force row level security;
create policy tenant_isolation on ledger.note for select to {run}_app using (tenant_id = app.current_tenant_id());
grant select on ledger.note to {run}_app;

-- change: names that must be quoted
create table ledger."Kunde und ""Co"" (" (tenant_id uuid not null, "Id" uuid not null, primary key (tenant_id, "Id"));
alter table ledger."Kunde und ""Co"" (" owner to {run}_owner;
alter table ledger."Kunde und ""Co"" (" enable row level security;
alter table ledger."Kunde und ""Co"" (" force row level security;
create policy "Mandant oder alle" on ledger."Kunde und ""Co"" (" to {run}_app
    using (tenant_id = app.current_tenant_id() and "Id" is not null) with check (tenant_id = app.current_tenant_id());
grant select, insert on ledger."Kunde und ""Co"" (" to {run}_app;

-- change: an unlogged table
create unlogged table ledger.draft (tenant_id uuid not null, id uuid not null, primary key (tenant_id, id));
alter table ledger.draft owner to {run}_owner;
alter table ledger.draft enable row level security;
alter table ledger.draft force row level security;

-- change: indexes of every form, each led by the tenant
create index on ledger.client (tenant_id, lower(code));
create index on ledger.client (tenant_id) include (code);
create index on ledger.project (tenant_id, closed desc) where closed;
create index on ledger.time_entry using gist (tenant_id, span);
create unique index on ledger.client (tenant_id, (code || '!'));

-- change: an index over all tenants for a role that reads all
create index on ledger.outbox (event_id);

-- change: a foreign key that is checked late and removes what belongs to it
alter table ledger.project drop constraint project_parent_fkey;
alter table ledger.project add constraint project_parent_fkey
    foreign key (tenant_id, parent_id) references ledger.project (tenant_id, id)
    on delete cascade deferrable initially deferred;

-- change: a table that an extension brought
create table ledger.brought (id integer primary key);
alter extension tablefunc add table ledger.brought;

-- change: a temporary table of somebody else
create temporary table client (id uuid primary key, tenant_id uuid);

-- change: a function with defaults
create function ledger.page(size integer default 50, after uuid default null) returns setof ledger.client
    language sql stable
    begin atomic
        select * from ledger.client where tenant_id = app.current_tenant_id() and id > after order by id limit size;
    end;
alter function ledger.page owner to {run}_owner;
revoke execute on function ledger.page from public;
grant execute on function ledger.page to {run}_app;

-- change: statistics that span columns
create statistics ledger.client_together on tenant_id, code from ledger.client;
alter statistics ledger.client_together owner to {run}_owner;

-- change: a large object of the owner's own
select lo_create(4711);
