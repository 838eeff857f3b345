-- Firms that use the deployment. One row each; never deleted, since every other schema holds rows of theirs.
-- The rows belong to the platform, not to the firms: tenant_id is the platform's reserved tenant, id is the firm.
-- So the ordinary policy holds: operators act as the platform, and no firm's context reaches a row.
create table tenants.tenant (
    tenant_id     uuid        not null,
    id            uuid        not null,
    slug          text        not null,
    display_name  text        not null,
    time_zone     text        not null,
    currency_code text        not null,
    -- False while the firm is suspended.
    active        boolean     not null,
    version       bigint      not null,
    created_at    timestamptz not null,
    updated_at    timestamptz not null,
    constraint tenant_pkey primary key (tenant_id, id),
    constraint tenant_slug_key unique (tenant_id, slug),
    constraint tenant_platform_check check (tenant_id = '00000000-0000-7000-8000-000000000001')
);

-- Lists by state, in the order of creation (ids are UUIDv7).
create index tenant_active_idx on tenants.tenant (tenant_id, active, id);

alter table tenants.tenant enable row level security;
alter table tenants.tenant force row level security;

create policy tenant_isolation on tenants.tenant to tenants_app
    using (tenant_id = app.current_tenant_id())
    with check (tenant_id = app.current_tenant_id());

grant select, insert, update on tenants.tenant to tenants_app;
