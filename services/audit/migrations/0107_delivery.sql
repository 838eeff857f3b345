-- What each sink has been told of each alert. Takes the place of the columns of delivery in audit.alert, which new alerts
-- leave at 'not_configured', so that a version that still reads them delivers its own alerts and no others.
create table audit.delivery (
    tenant_id       uuid        not null,
    alert_id        uuid        not null,
    -- The name of the sink. One that is no longer configured is not told; should its name come back, it is.
    sink            text        not null,
    -- Whether the sink is told again while the alert is open, and once when it no longer is.
    resolves        boolean     not null,
    -- pending: not accepted yet. open: accepted, and told again. resolving: to be told that it is over. done: no more.
    state           text        not null,
    attempts        integer     not null,
    next_attempt_at timestamptz not null,
    -- When it was first accepted; null before.
    accepted_at     timestamptz,
    constraint delivery_pkey primary key (tenant_id, alert_id, sink),
    constraint delivery_alert_fkey foreign key (tenant_id, alert_id) references audit.alert (tenant_id, id),
    constraint delivery_state_check check (state in ('pending', 'open', 'resolving', 'done')),
    constraint delivery_resolves_check check (resolves or state in ('pending', 'done'))
) with (fillfactor = 70);

-- For the operator: what is due for a sink.
create index delivery_due_idx on audit.delivery (sink, next_attempt_at) where state <> 'done';

alter table audit.delivery enable row level security;
alter table audit.delivery force row level security;

create policy tenant_isolation on audit.delivery to audit_app
    using (tenant_id = app.current_tenant_id())
    with check (tenant_id = app.current_tenant_id());

create policy operator_read on audit.delivery for select to audit_operator using (true);
create policy operator_adopt on audit.delivery for insert to audit_operator with check (true);
create policy operator_deliver on audit.delivery for update to audit_operator using (true) with check (true);

grant select, insert, update on audit.delivery to audit_app;
grant select, insert, update (state, attempts, next_attempt_at, accepted_at) on audit.delivery to audit_operator;
