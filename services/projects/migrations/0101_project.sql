-- Work for one client. One row each; never deleted, since assignments and time entries name them.
create table projects.project (
    tenant_id       uuid        not null,
    id              uuid        not null,
    client_id       uuid        not null,
    code            text        not null,
    display_name    text        not null,
    billable        boolean     not null,
    budget_minutes  bigint,
    budget_minor    bigint,
    budget_currency text,
    start_date      date,
    end_date        date,
    archived        boolean     not null,
    version         bigint      not null,
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    constraint project_pkey primary key (tenant_id, id),
    constraint project_code_key unique (tenant_id, code),
    constraint project_client_fkey foreign key (tenant_id, client_id) references projects.client (tenant_id, id),
    constraint project_budget_minutes_check check (budget_minutes >= 0),
    constraint project_budget_check check ((budget_minor is null) = (budget_currency is null) and budget_minor >= 0),
    constraint project_dates_check check (end_date >= start_date)
);

-- Lists of a client and lists by state, in the order of creation (ids are UUIDv7).
-- A client has few projects: its list in one state reads the first index and drops the others.
create index project_client_idx on projects.project (tenant_id, client_id, id);
create index project_archived_idx on projects.project (tenant_id, archived, id);

alter table projects.project enable row level security;
alter table projects.project force row level security;

create policy tenant_isolation on projects.project to projects_app
    using (tenant_id = app.current_tenant_id())
    with check (tenant_id = app.current_tenant_id());

grant select, insert, update on projects.project to projects_app;
