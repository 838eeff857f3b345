-- What is kept here of the consultants service's consultants, by its events and look-ups.
-- version is the one that the service counts: an older event never overwrites a newer row.
create table projects.consultant (
    tenant_id    uuid    not null,
    id           uuid    not null,
    code         text    not null,
    display_name text    not null,
    active       boolean not null,
    version      bigint  not null,
    constraint consultant_pkey primary key (tenant_id, id)
);

alter table projects.consultant enable row level security;
alter table projects.consultant force row level security;

create policy tenant_isolation on projects.consultant to projects_app
    using (tenant_id = app.current_tenant_id())
    with check (tenant_id = app.current_tenant_id());

grant select, insert, update on projects.consultant to projects_app;
