-- Time worked: a consultant, a project, a stretch of time. The one big table, so it is partitioned, by tenant alone:
-- every key and index begins with tenant_id, and a statement that names the tenant touches one partition.
create table time_entries.time_entry (
    tenant_id      uuid        not null,
    id             uuid        not null,
    project_id     uuid        not null,
    consultant_id  uuid        not null,
    started_at     timestamptz not null,
    ended_at       timestamptz not null,
    break_minutes  integer     not null,
    -- From started_at to ended_at without the break, rounded down: kept, so that sums only add.
    worked_minutes integer     not null,
    -- The date of started_at in time_zone, an IANA name.
    worked_on      date        not null,
    time_zone      text        not null,
    billable       boolean     not null,
    note           text        not null,
    -- The key in the system that the entry came from.
    external_id    text,
    -- An import kept the entry although it overlaps another one of the consultant.
    overlap_kept   boolean     not null,
    version        bigint      not null,
    created_at     timestamptz not null,
    updated_at     timestamptz not null,
    constraint time_entry_pkey primary key (tenant_id, id),
    constraint time_entry_external_id_key unique (tenant_id, external_id),
    constraint time_entry_project_fkey foreign key (tenant_id, project_id)
        references time_entries.project (tenant_id, id),
    constraint time_entry_consultant_fkey foreign key (tenant_id, consultant_id)
        references time_entries.consultant (tenant_id, id),
    constraint time_entry_span_check check (ended_at >= started_at),
    constraint time_entry_minutes_check check (break_minutes >= 0 and worked_minutes >= 0),
    constraint time_entry_external_id_check check (external_id <> '')
) partition by hash (tenant_id);

-- Lists and sums: of all, of a project, of a consultant; in the order of the pages.
create index time_entry_started_at_idx on time_entries.time_entry (tenant_id, started_at, id);
create index time_entry_project_idx on time_entries.time_entry (tenant_id, project_id, started_at, id);
create index time_entry_consultant_idx on time_entries.time_entry (tenant_id, consultant_id, started_at, id);

alter table time_entries.time_entry enable row level security;
alter table time_entries.time_entry force row level security;

create policy tenant_isolation on time_entries.time_entry to time_entries_app
    using (tenant_id = app.current_tenant_id())
    with check (tenant_id = app.current_tenant_id());

grant select, insert, update, delete on time_entries.time_entry to time_entries_app;

-- No two entries of a consultant overlap, except kept ones. PostgreSQL 15 has no exclusion constraint on a partitioned
-- table; one on each partition is as complete, since all entries of a tenant are in one. An entry without duration has
-- an empty range, which overlaps nothing.
-- A partition is made apart and attached, so that its constraints bear our names: an error names the partition's.
-- Nobody is granted a partition, and each has the policy itself, should anybody ever be.
do $$
declare
    part text;
begin
    for remainder in 0 .. 15 loop
        part := 'time_entry_p' || lpad(remainder::text, 2, '0');
        execute format('create table time_entries.%I (like time_entries.time_entry including constraints)', part);
        execute format(
            'alter table time_entries.%I
                 add constraint %I primary key (tenant_id, id),
                 add constraint %I unique (tenant_id, external_id),
                 add constraint %I exclude using gist
                     (tenant_id with =, consultant_id with =, tstzrange(started_at, ended_at, ''[)'') with &&)
                     where (not overlap_kept)',
            part, part || '_pkey', part || '_external_id_key', part || '_overlap_excl');
        execute format(
            'alter table time_entries.time_entry attach partition time_entries.%I
                 for values with (modulus 16, remainder %s)',
            part, remainder);
        execute format('alter table time_entries.%I enable row level security', part);
        execute format('alter table time_entries.%I force row level security', part);
        execute format(
            'create policy tenant_isolation on time_entries.%I to time_entries_app
                 using (tenant_id = app.current_tenant_id())
                 with check (tenant_id = app.current_tenant_id())',
            part);
    end loop;
end
$$;
