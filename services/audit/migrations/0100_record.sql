-- The log: every event of the deployment, whole, in the tenant that it belongs to. Append only: no role may change or
-- remove a row. The envelope is in columns, from which the headers are made again as they were.
--
-- A tenant has two logs, each with a sequence and a hash chain of its own: the one that its people read, and one for
-- the operator alone (operator_only). The second holds what would tell a tenant that an id which it named exists
-- elsewhere; a gap in the first would tell it as well.
create table audit.record (
    tenant_id     uuid        not null,
    operator_only boolean     not null,
    sequence      bigint      not null,
    id            uuid        not null,
    event_id      uuid        not null,
    type          text        not null,
    category      text        not null,
    severity      smallint    not null,
    actor_kind    text        not null,
    actor_id      text        not null,
    source        text        not null,
    aggregate_id  uuid        not null,
    version       bigint      not null,
    -- Empty and null when the event is about no resource.
    resource_kind text        not null,
    resource_id   uuid,
    occurred_at   timestamptz not null,
    recorded_at   timestamptz not null,
    traceparent   text,
    body          bytea       not null,
    hash          bytea       not null,
    constraint record_pkey primary key (tenant_id, operator_only, sequence),
    constraint record_sequence_check check (sequence > 0),
    constraint record_category_check check (category in ('domain', 'security')),
    constraint record_severity_check check (severity between 1 and 4),
    constraint record_hash_check check (octet_length(hash) = 32)
) with (autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000);

-- The filters of a list that choose few of many records, in the order of the log.
create index record_resource_idx on audit.record (tenant_id, resource_id, sequence);
create index record_actor_idx on audit.record (tenant_id, actor_id, sequence);
create index record_type_idx on audit.record (tenant_id, type, sequence);
-- The security log, a small part of the whole.
create index record_security_idx on audit.record (tenant_id, operator_only, sequence) where category = 'security';
-- Turns an instant into the place in the log where to begin.
create index record_recorded_at_idx on audit.record (tenant_id, operator_only, recorded_at, sequence);
-- From an alert to the event that raised it, and from one side of an attempt across tenants to the other.
create index record_event_idx on audit.record (event_id) where severity = 4;

alter table audit.record enable row level security;
alter table audit.record force row level security;

create policy tenant_isolation on audit.record to audit_app
    using (tenant_id = app.current_tenant_id())
    with check (tenant_id = app.current_tenant_id());

-- Narrows the policy above: what is for the operator is written in a tenant's context and never read in it.
create policy operator_log_unread on audit.record as restrictive for select to audit_app
    using (not operator_only);

create policy operator_read on audit.record for select to audit_operator using (true);

grant select, insert on audit.record to audit_app;
grant select on audit.record to audit_operator;

-- The end of each log: where the next record goes and what it is chained to. Locked by whoever appends.
create table audit.chain (
    tenant_id     uuid    not null,
    operator_only boolean not null,
    last_sequence bigint  not null,
    last_hash     bytea   not null,
    constraint chain_pkey primary key (tenant_id, operator_only),
    constraint chain_last_hash_check check (octet_length(last_hash) = 32)
) with (fillfactor = 50);

alter table audit.chain enable row level security;
alter table audit.chain force row level security;

create policy tenant_isolation on audit.chain to audit_app
    using (tenant_id = app.current_tenant_id())
    with check (tenant_id = app.current_tenant_id());

grant select, insert, update on audit.chain to audit_app;
