-- The rows of one firm. An id is a prefix for the kind and fifteen digits for firm and number.
insert into projects.client (tenant_id, id, code, display_name, version, created_at, updated_at)
values ('{tenant}', '{client}', 'ACME', 'Acme', 1, now(), now());

insert into projects.project
    (tenant_id, id, client_id, code, display_name, billable, archived, version, created_at, updated_at)
select '{tenant}', ('00000002-0000-7000-8' || {digits} + n)::uuid, '{client}', 'P-' || n, 'Project ' || n,
       n % 2 = 0, false, 1, now(), now()
from generate_series(0, {projects} - 1) as n;

-- What the time-entries service would have learned of projects and consultants by their events.
insert into time_entries.project (tenant_id, id, client_id, code, display_name, active, billable, version)
select '{tenant}', ('00000002-0000-7000-8' || {digits} + n)::uuid, '{client}', 'P-' || n, 'Project ' || n, true, true, 1
from generate_series(0, {consultants} - 1) as n;

insert into time_entries.consultant (tenant_id, id, code, display_name, active, version)
select '{tenant}', ('00000003-0000-7000-8' || {digits} + n)::uuid, 'C-' || n, 'Consultant ' || n, true, 1
from generate_series(0, {consultants} - 1) as n;

insert into time_entries.time_entry
    (tenant_id, id, project_id, consultant_id, started_at, ended_at, break_minutes, worked_minutes, worked_on,
     time_zone, billable, note, external_id, overlap_kept, version, created_at, updated_at)
select '{tenant}', ('00000004-0000-7000-8' || {digits} + n)::uuid,
       ('00000002-0000-7000-8' || {digits} + n % {consultants})::uuid,
       ('00000003-0000-7000-8' || {digits} + n % {consultants})::uuid,
       start, start + interval '15 minutes', 0, 15, (start at time zone 'UTC')::date,
       'UTC', true, '', 'bench-' || n, false, 1, now(), now()
from generate_series(0, {entries} - 1) as n,
     to_timestamp({first_start} + n / {consultants} * 900) as start;
