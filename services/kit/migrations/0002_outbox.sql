-- Events of committed business transactions, on their way to the broker.
-- A row is written in the transaction of the change and removed only after the broker's acknowledgement.
-- seq orders the rows of one aggregate, since the aggregate's row is locked before its event is written.
create table {schema}.outbox (
    tenant_id    uuid        not null,
    event_id     uuid        not null,
    seq          bigint      generated always as identity,
    type         text        not null,
    aggregate_id uuid        not null,
    version      bigint      not null,
    occurred_at  timestamptz not null,
    actor_kind   text        not null,
    actor_id     text        not null,
    traceparent  text,
    body         bytea       not null,
    constraint outbox_pkey primary key (tenant_id, event_id)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

create index outbox_seq_idx on {schema}.outbox (seq);

alter table {schema}.outbox enable row level security;
alter table {schema}.outbox force row level security;

create policy tenant_isolation on {schema}.outbox for insert to {schema}_app
    with check (tenant_id = app.current_tenant_id());

-- The relay moves the rows of all tenants and can do nothing else.
create policy relay_read on {schema}.outbox for select to {schema}_relay using (true);
create policy relay_remove on {schema}.outbox for delete to {schema}_relay using (true);

grant insert on {schema}.outbox to {schema}_app;
grant select, delete on {schema}.outbox to {schema}_relay;

-- Security events travel apart from domain events: another stream, and a flood of probes delays no business event.
create table {schema}.security_outbox (
    like {schema}.outbox including defaults including identity including storage,
    constraint security_outbox_pkey primary key (tenant_id, event_id)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

create index security_outbox_seq_idx on {schema}.security_outbox (seq);

alter table {schema}.security_outbox enable row level security;
alter table {schema}.security_outbox force row level security;

create policy tenant_isolation on {schema}.security_outbox for insert to {schema}_app
    with check (tenant_id = app.current_tenant_id());

create policy relay_read on {schema}.security_outbox for select to {schema}_relay using (true);
create policy relay_remove on {schema}.security_outbox for delete to {schema}_relay using (true);

grant insert on {schema}.security_outbox to {schema}_app;
grant select, delete on {schema}.security_outbox to {schema}_relay;

-- Writes the security events of many tenants in one statement: each row under its own tenant's context,
-- so that the policy checks it, and the caller's context is restored at the end.
create function {schema}.record_security_events(
    tenant_ids uuid[], event_ids uuid[], types text[], aggregate_ids uuid[], occurred_ats timestamptz[],
    actor_kinds text[], actor_ids text[], traceparents text[], bodies bytea[]
) returns void
    language plpgsql volatile security invoker
    set app.current_tenant_id = ''
as $$
begin
    for i in 1 .. cardinality(event_ids) loop
        perform set_config('app.current_tenant_id', tenant_ids[i]::text, true);
        insert into {schema}.security_outbox
            (tenant_id, event_id, type, aggregate_id, version, occurred_at, actor_kind, actor_id, traceparent, body)
        values
            (tenant_ids[i], event_ids[i], types[i], aggregate_ids[i], 1, occurred_ats[i],
             actor_kinds[i], actor_ids[i], traceparents[i], bodies[i]);
    end loop;
end
$$;

revoke execute on function {schema}.record_security_events from public;
grant execute on function {schema}.record_security_events to {schema}_app;

-- Who moves which outbox. The epoch fences: a relay that lost its lease can no longer remove rows.
create table {schema}.relay_lease (
    outbox     text        not null,
    holder     uuid        not null,
    epoch      bigint      not null,
    expires_at timestamptz not null,
    constraint relay_lease_pkey primary key (outbox)
);

insert into {schema}.relay_lease (outbox, holder, epoch, expires_at)
values ('outbox', '00000000-0000-0000-0000-000000000000', 0, '-infinity'),
       ('security_outbox', '00000000-0000-0000-0000-000000000000', 0, '-infinity');

grant select, update on {schema}.relay_lease to {schema}_relay;
