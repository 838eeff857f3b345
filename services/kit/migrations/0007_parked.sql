-- Events that a consumer could not apply, and those of the same aggregates behind them: what is here is applied in order
-- of version, and nothing of an aggregate before what is here of it. A row goes in the transaction of the effect.
create table {schema}.parked (
    tenant_id    uuid        not null,
    consumer     text        not null,
    event_id     uuid        not null,
    aggregate_id uuid        not null,
    version      bigint      not null,
    -- Since it was last set aside.
    failures     integer     not null,
    -- Among the dead letters; otherwise it is still tried.
    is_set_aside boolean     not null,
    noted_at     timestamptz not null default now(),
    constraint parked_pkey primary key (tenant_id, consumer, event_id)
);

create index parked_aggregate_idx on {schema}.parked (tenant_id, consumer, aggregate_id);

alter table {schema}.parked enable row level security;
alter table {schema}.parked force row level security;

create policy tenant_isolation on {schema}.parked to {schema}_app
    using (tenant_id = app.current_tenant_id())
    with check (tenant_id = app.current_tenant_id());

grant select, insert, update, delete on {schema}.parked to {schema}_app;
