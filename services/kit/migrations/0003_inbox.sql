-- Ids of events whose effect is in this schema. Written in the transaction of the effect, so redelivery changes nothing.
create table {schema}.inbox (
    tenant_id  uuid        not null,
    event_id   uuid        not null,
    applied_at timestamptz not null default now(),
    constraint inbox_pkey primary key (tenant_id, event_id)
);

alter table {schema}.inbox enable row level security;
alter table {schema}.inbox force row level security;

create policy tenant_isolation on {schema}.inbox to {schema}_app
    using (tenant_id = app.current_tenant_id())
    with check (tenant_id = app.current_tenant_id());

grant select, insert on {schema}.inbox to {schema}_app;
