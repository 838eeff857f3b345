-- Windows of like security events of one principal: how many are in the log by themselves, how many are only counted.
-- When a window is over, what it counted becomes one record and the row goes. Changed under the lock of the log.
create table audit.flood (
    tenant_id      uuid        not null,
    operator_only  boolean     not null,
    -- Names principal, type, severity and kind without saying so: a hash.
    key            uuid        not null,
    type           text        not null,
    severity       smallint    not null,
    -- The actor of the records, which in the victim's log of attempts across tenants is the audit service.
    actor_kind     text        not null,
    actor_id       text        not null,
    resource_kind  text        not null,
    source_address text        not null,
    began_at       timestamptz not null,
    recorded       bigint      not null,
    counted        bigint      not null,
    calls          bigint      not null,
    first_at       timestamptz not null,
    last_at        timestamptz not null,
    resource_ids   uuid[]      not null,
    constraint flood_pkey primary key (tenant_id, operator_only, key),
    constraint flood_severity_check check (severity between 1 and 4),
    constraint flood_counts_check check (recorded >= 0 and counted >= 0 and calls >= counted)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- Those that are over, of all tenants.
create index flood_began_at_idx on audit.flood (began_at);

alter table audit.flood enable row level security;
alter table audit.flood force row level security;

create policy tenant_isolation on audit.flood to audit_app
    using (tenant_id = app.current_tenant_id())
    with check (tenant_id = app.current_tenant_id());

create policy operator_read on audit.flood for select to audit_operator using (true);

grant select, insert, update, delete on audit.flood to audit_app;
grant select on audit.flood to audit_operator;
