-- Which tenant has which id, learned from domain events.
create table audit.registry (
    tenant_id uuid not null,
    id        uuid not null,
    kind      text not null,
    constraint registry_pkey primary key (tenant_id, id)
);

-- The one question that no tenant's context can answer: whose id is this?
create index registry_id_idx on audit.registry (id);

alter table audit.registry enable row level security;
alter table audit.registry force row level security;

create policy tenant_isolation on audit.registry to audit_app
    using (tenant_id = app.current_tenant_id())
    with check (tenant_id = app.current_tenant_id());

create policy operator_read on audit.registry for select to audit_operator using (true);

grant select, insert on audit.registry to audit_app;
grant select on audit.registry to audit_operator;

-- Ids that a caller of tenant_id named and did not find, until they are judged: another tenant's, or nobody's.
create table audit.miss (
    tenant_id   uuid        not null,
    event_id    uuid        not null,
    kind        text        not null,
    resource_id uuid        not null,
    actor_kind  text        not null,
    actor_id    text        not null,
    method      text        not null,
    occurred_at timestamptz not null,
    traceparent text,
    received_at timestamptz not null,
    constraint miss_pkey primary key (tenant_id, event_id)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- The oldest are judged first, and forgotten first.
create index miss_received_at_idx on audit.miss (received_at);

alter table audit.miss enable row level security;
alter table audit.miss force row level security;

create policy tenant_isolation on audit.miss for insert to audit_app
    with check (tenant_id = app.current_tenant_id());

create policy operator_read on audit.miss for select to audit_operator using (true);
create policy operator_remove on audit.miss for delete to audit_operator using (true);

grant insert on audit.miss to audit_app;
grant select, delete on audit.miss to audit_operator;
