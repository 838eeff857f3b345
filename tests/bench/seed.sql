-- The rows of one firm. An id is a prefix for the kind and fifteen digits for firm and number.
-- The rows are right by construction, so the checks of foreign keys are left out; those of overlaps are not.
set session_replication_role = replica;
set synchronous_commit = off;

insert into projects.client (tenant_id, id, code, display_name, version, created_at, updated_at)
select '{tenant}', ('00000001-0000-7000-8' || {digits} + n)::uuid, 'K-' || n, 'Client ' || n, 1, now(), now()
from generate_series(0, {clients} - 1) as n;

insert into projects.project
    (tenant_id, id, client_id, code, display_name, billable, archived, version, created_at, updated_at)
select '{tenant}', ('00000002-0000-7000-8' || {digits} + n)::uuid,
       ('00000001-0000-7000-8' || {digits} + n % {clients})::uuid, 'P-' || n, 'Project ' || n,
       n % 2 = 0, false, 1, now(), now()
from generate_series(0, {projects} - 1) as n;

insert into consultants.consultant
    (tenant_id, id, code, display_name, job_title, weekly_capacity_minutes, active, version, created_at, updated_at)
select '{tenant}', ('00000003-0000-7000-8' || {digits} + n)::uuid, 'C-' || n, 'Consultant ' || n, 'Consultant', 2400,
       true, 1, now(), now()
from generate_series(0, {consultants} - 1) as n;

-- What the other services would have learned of projects and consultants by their events.
insert into projects.consultant (tenant_id, id, code, display_name, active, version)
select tenant_id, id, code, display_name, active, version
from consultants.consultant where tenant_id = '{tenant}';

insert into time_entries.project (tenant_id, id, client_id, code, display_name, active, billable, version)
select tenant_id, id, client_id, code, display_name, true, billable, version
from projects.project where tenant_id = '{tenant}';

insert into time_entries.consultant (tenant_id, id, code, display_name, active, version)
select tenant_id, id, code, display_name, active, version
from consultants.consultant where tenant_id = '{tenant}';

insert into time_entries.time_entry
    (tenant_id, id, project_id, consultant_id, started_at, ended_at, break_minutes, worked_minutes, worked_on,
     time_zone, billable, note, external_id, overlap_kept, version, created_at, updated_at)
select '{tenant}', ('00000004-0000-7000-8' || {digits} + n)::uuid,
       ('00000002-0000-7000-8' || {digits} + n % {projects})::uuid,
       ('00000003-0000-7000-8' || {digits} + n % {consultants})::uuid,
       start, start + interval '15 minutes', 0, 15, (start at time zone 'UTC')::date,
       'UTC', true, '', 'bench-' || n, false, 1, now(), now()
from generate_series(0, {entries} - 1) as n,
     to_timestamp({first_start} + n / {consultants} * 900) as start;
