-- What this service keeps of other services' aggregates: told by their events, asked for when an id comes first.
-- A row is replaced only by a greater version, so events may come late, twice or out of order.
create table time_entries.project (
    tenant_id    uuid    not null,
    id           uuid    not null,
    client_id    uuid    not null,
    code         text    not null,
    display_name text    not null,
    active       boolean not null,
    billable     boolean not null,
    version      bigint  not null,
    constraint project_pkey primary key (tenant_id, id)
);

alter table time_entries.project enable row level security;
alter table time_entries.project force row level security;

create policy tenant_isolation on time_entries.project to time_entries_app
    using (tenant_id = app.current_tenant_id())
    with check (tenant_id = app.current_tenant_id());

grant select, insert, update on time_entries.project to time_entries_app;

create table time_entries.consultant (
    tenant_id    uuid    not null,
    id           uuid    not null,
    code         text    not null,
    display_name text    not null,
    -- The `sub` of the person's tokens. Unique at its owner; not here, where events of two consultants may cross.
    subject      text,
    active       boolean not null,
    version      bigint  not null,
    constraint consultant_pkey primary key (tenant_id, id)
);

create index consultant_subject_idx on time_entries.consultant (tenant_id, subject);

alter table time_entries.consultant enable row level security;
alter table time_entries.consultant force row level security;

create policy tenant_isolation on time_entries.consultant to time_entries_app
    using (tenant_id = app.current_tenant_id())
    with check (tenant_id = app.current_tenant_id());

grant select, insert, update on time_entries.consultant to time_entries_app;
