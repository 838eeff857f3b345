-- Answers of mutations by the caller's request_id: a repeat within 24 hours gets the first answer and changes nothing.
-- answer is null only within the transaction that is making it.
create table {schema}.request (
    tenant_id  uuid        not null,
    actor      text        not null,
    request_id uuid        not null,
    method     text        not null,
    body_hash  bytea       not null,
    answer     jsonb,
    created_at timestamptz not null default now(),
    constraint request_pkey primary key (tenant_id, actor, request_id)
);

create index request_created_at_idx on {schema}.request (tenant_id, created_at);

alter table {schema}.request enable row level security;
alter table {schema}.request force row level security;

create policy tenant_isolation on {schema}.request to {schema}_app
    using (tenant_id = app.current_tenant_id())
    with check (tenant_id = app.current_tenant_id());

grant select, insert, update, delete on {schema}.request to {schema}_app;
