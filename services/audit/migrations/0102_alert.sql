-- Rules that security events have met. revision rises with each change that its etag tells of; delivery is apart.
create table audit.alert (
    tenant_id         uuid        not null,
    id                uuid        not null,
    rule              text        not null,
    severity          smallint    not null,
    -- Names who did what without saying so: a hash of the offender and the rule.
    dedup_key         uuid        not null,
    -- The first event that met the rule.
    event_id          uuid        not null,
    traceparent       text,
    occurrences       bigint      not null,
    first_at          timestamptz not null,
    last_at           timestamptz not null,
    state             text        not null,
    acknowledged_kind text,
    acknowledged_id   text,
    acknowledged_at   timestamptz,
    acknowledge_note  text        not null,
    revision          bigint      not null,
    created_at        timestamptz not null,
    updated_at        timestamptz not null,
    delivery_state    text        not null,
    delivery_attempts integer     not null,
    next_attempt_at   timestamptz not null,
    constraint alert_pkey primary key (tenant_id, id),
    constraint alert_severity_check check (severity between 1 and 4),
    constraint alert_occurrences_check check (occurrences > 0),
    constraint alert_state_check check (state in ('open', 'acknowledged')),
    constraint alert_acknowledged_check check (
        (state = 'acknowledged') = (acknowledged_at is not null)
        and (acknowledged_at is null) = (acknowledged_kind is null)
        and (acknowledged_at is null) = (acknowledged_id is null)
    ),
    constraint alert_delivery_state_check check (delivery_state in ('pending', 'delivered', 'not_configured'))
);

-- Lists by state, newest first (ids are UUIDv7).
create index alert_state_idx on audit.alert (tenant_id, state, id);
-- The alert that a repeat is counted into.
create index alert_dedup_idx on audit.alert (tenant_id, rule, dedup_key, last_at) where state = 'open';
-- For the operator: all tenants' alerts, newest first, and those that wait for delivery.
create index alert_newest_idx on audit.alert (id);
create index alert_due_idx on audit.alert (next_attempt_at) where delivery_state = 'pending';

alter table audit.alert enable row level security;
alter table audit.alert force row level security;

create policy tenant_isolation on audit.alert to audit_app
    using (tenant_id = app.current_tenant_id())
    with check (tenant_id = app.current_tenant_id());

create policy operator_read on audit.alert for select to audit_operator using (true);
create policy operator_deliver on audit.alert for update to audit_operator using (true) with check (true);

grant select, insert, update on audit.alert to audit_app;
grant select, update (delivery_state, delivery_attempts, next_attempt_at) on audit.alert to audit_operator;
