-- A consultant's place on a project for some days, both ends included; without an end it is open.
-- A row is inserted and deleted, never updated.
create table projects.assignment (
    tenant_id          uuid        not null,
    id                 uuid        not null,
    project_id         uuid        not null,
    consultant_id      uuid        not null,
    role               text        not null,
    allocation_percent integer     not null,
    start_date         date        not null,
    end_date           date,
    version            bigint      not null,
    created_at         timestamptz not null,
    updated_at         timestamptz not null,
    constraint assignment_pkey primary key (tenant_id, id),
    constraint assignment_project_fkey foreign key (tenant_id, project_id)
        references projects.project (tenant_id, id),
    constraint assignment_consultant_fkey foreign key (tenant_id, consultant_id)
        references projects.consultant (tenant_id, id),
    constraint assignment_allocation_check check (allocation_percent between 1 and 100),
    constraint assignment_dates_check check (end_date >= start_date),
    -- Nobody is on the same project twice on one day, whatever runs at the same time.
    constraint assignment_overlap_excl exclude using gist (
        tenant_id with =,
        project_id with =,
        consultant_id with =,
        daterange(start_date, end_date, '[]') with &&
    )
);

-- Lists of a project and lists of a consultant, in the order of creation (ids are UUIDv7).
-- The list of a consultant's assignments to a project reads the index of assignment_overlap_excl.
create index assignment_project_idx on projects.assignment (tenant_id, project_id, id);
create index assignment_consultant_idx on projects.assignment (tenant_id, consultant_id, id);

alter table projects.assignment enable row level security;
alter table projects.assignment force row level security;

create policy tenant_isolation on projects.assignment to projects_app
    using (tenant_id = app.current_tenant_id())
    with check (tenant_id = app.current_tenant_id());

grant select, insert, delete on projects.assignment to projects_app;
