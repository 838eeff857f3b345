-- The last version of each aggregate that was deleted: without it, a row that was lost looks like one that was removed.
-- Written in the transaction of the delete, and kept for ever.
create table {schema}.tombstone (
    tenant_id  uuid        not null,
    id         uuid        not null,
    version    bigint      not null,
    deleted_at timestamptz not null default now(),
    constraint tombstone_pkey primary key (tenant_id, id)
);

alter table {schema}.tombstone enable row level security;
alter table {schema}.tombstone force row level security;

create policy tenant_isolation on {schema}.tombstone to {schema}_app
    using (tenant_id = app.current_tenant_id())
    with check (tenant_id = app.current_tenant_id());

grant select, insert on {schema}.tombstone to {schema}_app;
