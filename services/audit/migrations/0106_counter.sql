-- Events that meet a rule and have not reached its threshold: when each occurred, and how many calls it stands for.
-- The alert takes them over; what never becomes one goes when it expires. Changed under the lock of the tenant's log.
create table audit.counter (
    tenant_id    uuid          not null,
    rule         text          not null,
    -- Names what is counted together without saying so: a hash.
    key          uuid          not null,
    -- The first of the events, and who caused it.
    event_id     uuid          not null,
    traceparent  text,
    offender_key uuid          not null,
    hits_at      timestamptz[] not null,
    hits_calls   bigint[]      not null,
    expires_at   timestamptz   not null,
    constraint counter_pkey primary key (tenant_id, rule, key),
    constraint counter_hits_check check (cardinality(hits_at) = cardinality(hits_calls))
);

-- For the operator: those that nobody will look at again.
create index counter_expires_at_idx on audit.counter (expires_at);

alter table audit.counter enable row level security;
alter table audit.counter force row level security;

create policy tenant_isolation on audit.counter to audit_app
    using (tenant_id = app.current_tenant_id())
    with check (tenant_id = app.current_tenant_id());

create policy operator_read on audit.counter for select to audit_operator using (true);
create policy operator_remove on audit.counter for delete to audit_operator using (true);

grant select, insert, update, delete on audit.counter to audit_app;
grant select, delete on audit.counter to audit_operator;
