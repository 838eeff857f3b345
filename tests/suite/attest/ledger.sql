-- A schema without a fault, with one of everything that the rules look at. {run} makes its roles unique in the server.
create role {run}_owner login noinherit password 'ledger';
create role {run}_app login noinherit password 'ledger';
create role {run}_relay login noinherit password 'ledger';
create role {run}_stranger login noinherit password 'ledger';
alter role {run}_app set jit = off;
alter role {run}_relay set jit = off;

create extension btree_gist;
create extension tablefunc;
revoke temporary on database {run} from public;

create schema app;
grant usage on schema app to {run}_owner, {run}_app, {run}_relay;
create function app.current_tenant_id() returns uuid
    language sql stable parallel safe
    return nullif(current_setting('app.current_tenant_id', true), '')::uuid;

create schema ledger authorization {run}_owner;
set role {run}_owner;
grant usage on schema ledger to {run}_app, {run}_relay;

-- No tenant's rows: read by all.
create table ledger.feature_flag (name text primary key, enabled boolean not null);
grant select on ledger.feature_flag to {run}_app;

-- Shared rows beside each tenant's own, which alone it writes.
create table ledger.industry_code (
    tenant_id uuid not null,
    code      text not null,
    primary key (tenant_id, code)
);
create policy tenant_reads on ledger.industry_code for select to {run}_app
    using (tenant_id = app.current_tenant_id() or tenant_id = '00000000-0000-7000-8000-000000000001');
create policy tenant_adds on ledger.industry_code for insert to {run}_app
    with check (tenant_id = app.current_tenant_id());
create policy tenant_removes on ledger.industry_code for delete to {run}_app
    using (tenant_id = app.current_tenant_id());
grant select, insert, delete on ledger.industry_code to {run}_app;

-- Seen whole by the serving role, so that a key over all tenants tells it nothing.
create table ledger.tenant (
    tenant_id uuid not null primary key,
    slug      text not null unique
);
create policy control_plane on ledger.tenant to {run}_app using (true) with check (true);
grant select, insert, update on ledger.tenant to {run}_app;

create table ledger.client (
    tenant_id uuid not null,
    id        uuid not null,
    code      text not null,
    primary key (tenant_id, id),
    unique (tenant_id, code),
    foreign key (tenant_id) references ledger.tenant (tenant_id)
);

create table ledger.project (
    tenant_id uuid    not null,
    id        uuid    not null,
    client_id uuid    not null,
    parent_id uuid,
    flag      text    references ledger.feature_flag (name),
    closed    boolean not null default false,
    primary key (tenant_id, id),
    foreign key (tenant_id, client_id) references ledger.client (tenant_id, id) on delete cascade,
    constraint project_parent_fkey foreign key (tenant_id, parent_id) references ledger.project (tenant_id, id)
        on delete set null (parent_id)
);
create index project_client_idx on ledger.project (tenant_id, client_id, closed);
create index project_parent_idx on ledger.project (tenant_id, parent_id) where parent_id is not null;

create table ledger.time_entry (
    tenant_id  uuid      not null,
    id         uuid      not null,
    project_id uuid      not null,
    span       tstzrange not null,
    primary key (tenant_id, id),
    foreign key (tenant_id, project_id) references ledger.project (tenant_id, id)
) partition by hash (tenant_id);
create index time_entry_project_idx on ledger.time_entry (tenant_id, project_id);
create table ledger.time_entry_0 partition of ledger.time_entry for values with (modulus 2, remainder 0);
create table ledger.time_entry_1 partition of ledger.time_entry for values with (modulus 2, remainder 1);
alter table ledger.time_entry_0
    add constraint time_entry_0_overlap_excl exclude using gist (tenant_id with =, project_id with =, span with &&);
alter table ledger.time_entry_1
    add constraint time_entry_1_overlap_excl exclude using gist (tenant_id with =, project_id with =, span with &&);

-- Written by the serving role, moved by the relay.
create table ledger.outbox (
    tenant_id uuid   not null,
    event_id  uuid   not null,
    seq       bigint generated always as identity,
    primary key (tenant_id, event_id)
);
create index outbox_seq_idx on ledger.outbox (seq);
create policy tenant_isolation on ledger.outbox for insert to {run}_app
    with check (tenant_id = app.current_tenant_id());
create policy relay_read on ledger.outbox for select to {run}_relay using (true);
create policy relay_remove on ledger.outbox for delete to {run}_relay using (true);
grant insert on ledger.outbox to {run}_app;
grant select, delete on ledger.outbox to {run}_relay;

do $$
declare
    name text;
begin
    foreach name in array array['client', 'project', 'time_entry'] loop
        execute format('create policy tenant_isolation on ledger.%I to {run}_app
                            using (tenant_id = app.current_tenant_id())
                            with check (tenant_id = app.current_tenant_id())', name);
    end loop;
    foreach name in array array['industry_code', 'tenant', 'client', 'project', 'time_entry', 'time_entry_0',
                                'time_entry_1', 'outbox'] loop
        execute format('alter table ledger.%I enable row level security', name);
        execute format('alter table ledger.%I force row level security', name);
    end loop;
end
$$;
grant select, insert, update, delete on ledger.client, ledger.time_entry to {run}_app;
grant select, insert, delete, update (client_id, closed) on ledger.project to {run}_app;

create view ledger.open_project with (security_invoker) as select * from ledger.project where not closed;
grant select on ledger.open_project to {run}_app;

create function ledger.keep_slug() returns trigger language plpgsql as $$ begin return new; end $$;
create trigger keep_slug before update on ledger.tenant for each row execute function ledger.keep_slug();

-- With the rights of its owner, and listed for it: it reaches no row.
create function ledger.server_day() returns date language sql security definer set search_path = pg_catalog, pg_temp
    return current_date;
revoke execute on function ledger.server_day from public;
grant execute on function ledger.server_day to {run}_app;
reset role;

-- One round trip for a hot read: sets the context, reads, restores.
-- Made by the administrator: the setting in its definition takes a right that the owner lacks.
create function ledger.find_client(tenant uuid, wanted uuid) returns setof ledger.client
    language plpgsql volatile
    set app.current_tenant_id = ''
as $$
begin
    perform set_config('app.current_tenant_id', tenant::text, true);
    return query select * from ledger.client where tenant_id = tenant and id = wanted;
end
$$;
alter function ledger.find_client owner to {run}_owner;
revoke execute on function ledger.find_client from public;
grant execute on function ledger.find_client to {run}_app;

insert into ledger.feature_flag values ('timers', true);
insert into ledger.tenant values
    ('11111111-1111-7111-8111-111111111111', 'acme'), ('22222222-2222-7222-8222-222222222222', 'globex');
insert into ledger.client select tenant_id, tenant_id, slug from ledger.tenant;
insert into ledger.project (tenant_id, id, client_id) select tenant_id, tenant_id, tenant_id from ledger.tenant;
insert into ledger.time_entry
select tenant_id, tenant_id, tenant_id, tstzrange('2026-01-05 09:00+00', '2026-01-05 10:00+00') from ledger.tenant;
insert into ledger.outbox (tenant_id, event_id) select tenant_id, tenant_id from ledger.tenant;
insert into ledger.industry_code values
    ('11111111-1111-7111-8111-111111111111', 'legal'), ('00000000-0000-7000-8000-000000000001', 'banking');
