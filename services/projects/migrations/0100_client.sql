-- Customers of the firm. One row each; never deleted, since projects name them.
create table projects.client (
    tenant_id    uuid        not null,
    id           uuid        not null,
    code         text        not null,
    display_name text        not null,
    version      bigint      not null,
    created_at   timestamptz not null,
    updated_at   timestamptz not null,
    constraint client_pkey primary key (tenant_id, id),
    constraint client_code_key unique (tenant_id, code)
);

alter table projects.client enable row level security;
alter table projects.client force row level security;

create policy tenant_isolation on projects.client to projects_app
    using (tenant_id = app.current_tenant_id())
    with check (tenant_id = app.current_tenant_id());

grant select, insert, update on projects.client to projects_app;
