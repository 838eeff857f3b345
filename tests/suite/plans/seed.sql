-- Firms of very different size in every table of every service: number 1 is the whale, with {whale} units, the others have
-- 10 to 100. Rows of the firms alternate, as they would had the firms worked side by side, and half of what belongs to
-- a project, a client or a consultant belongs to the first one.
-- An id is its kind, the number of the firm and a number: eight, three and twelve digits.
create function pg_temp.id(kind text, firm integer, number bigint) returns uuid
    language sql immutable
    return (kind || '-0000-7000-8' || lpad(firm::text, 3, '0') || '-' || lpad(number::text, 12, '0'))::uuid;

create temp table firm as
select n, pg_temp.id('0000000a', n, 0) as tenant_id,
       units, units / 4 + 1 as clients, units / 2 + 1 as consultants, units / 4 + 1 as quarter
from generate_series(1, {firms}) as n,
     lateral (select case n when 1 then {whale} else 10 + n % 10 * 10 end) as size (units);

insert into tenants.tenant
    (tenant_id, id, slug, display_name, time_zone, currency_code, active, version, created_at, updated_at)
select '00000000-0000-7000-8000-000000000001', tenant_id, 'firm-' || n, 'Firm ' || n, 'UTC', 'EUR', true, 1, now(), now()
from firm order by n;

insert into projects.client (tenant_id, id, code, display_name, version, created_at, updated_at)
select tenant_id, pg_temp.id('00000001', n, i), 'K-' || i, 'Client ' || i, 1, now(), now()
from firm, generate_series(0, clients - 1) as i order by i, n;

insert into projects.project
    (tenant_id, id, client_id, code, display_name, billable, archived, version, created_at, updated_at)
select tenant_id, pg_temp.id('00000002', n, i), pg_temp.id('00000001', n, case i % 2 when 0 then 0 else i % clients end),
       'P-' || i, 'Project ' || i, true, i % 3 = 2, 1, now(), now()
from firm, generate_series(0, units - 1) as i order by i, n;

insert into consultants.consultant
    (tenant_id, id, code, display_name, email, email_folded, subject, job_title, weekly_capacity_minutes, active, version,
     created_at, updated_at)
select tenant_id, pg_temp.id('00000003', n, i), 'C-' || i, 'Consultant ' || i, i || '@example.com', i || '@example.com',
       's-' || i, '', 2400, i % 4 <> 3, 1, now(), now()
from firm, generate_series(0, consultants - 1) as i order by i, n;

-- What other services have learned of them.
insert into projects.consultant (tenant_id, id, code, display_name, active, version)
select tenant_id, id, code, display_name, active, version from consultants.consultant order by id;

insert into time_entries.consultant (tenant_id, id, code, display_name, subject, active, version)
select tenant_id, id, code, display_name, subject, active, version from consultants.consultant order by id;

insert into time_entries.project (tenant_id, id, client_id, code, display_name, active, billable, version)
select tenant_id, id, client_id, code, display_name, not archived, billable, version from projects.project order by id;

insert into projects.assignment
    (tenant_id, id, project_id, consultant_id, role, allocation_percent, start_date, end_date, version, created_at,
     updated_at)
select tenant_id, pg_temp.id('00000004', n, i), pg_temp.id('00000002', n, case i % 2 when 0 then 0 else i end),
       pg_temp.id('00000003', n, case i % 4 when 0 then 0 else i % consultants end),
       'engineer', 100, date '2000-01-01' + i, date '2000-01-01' + i, 1, now(), now()
from firm, generate_series(0, units - 1) as i order by i, n;

insert into time_entries.time_entry
    (tenant_id, id, project_id, consultant_id, started_at, ended_at, break_minutes, worked_minutes, worked_on, time_zone,
     billable, note, external_id, overlap_kept, version, created_at, updated_at)
select tenant_id, pg_temp.id('00000005', n, i), pg_temp.id('00000002', n, case i % 2 when 0 then 0 else i % units end),
       pg_temp.id('00000003', n, case i % 4 when 0 then 0 else i % consultants end),
       start, start + interval '15 minutes', 0, 15, (start at time zone 'UTC')::date, 'UTC',
       true, '', 'seed-' || i, false, 1, now(), now()
from firm, generate_series(0, 2 * units - 1) as i,
     lateral (select timestamptz '2020-01-01 00:00+00' + i * interval '20 minutes') as moment (start)
order by i, n;

-- The audit log has the beginning of each aggregate, and of every fourth unit an attempt across tenants: on the side of
-- the victim, and on that of the next firm, who did it.
create temp table aggregate as
select tenant_id, id, 'projects' as source, 'client' as kind, 'catalyst.projects.v1.ClientCreated' as type
from projects.client
union all
select tenant_id, id, 'projects', 'project', 'catalyst.projects.v1.ProjectCreated' from projects.project
union all
select tenant_id, id, 'consultants', 'consultant', 'catalyst.consultants.v1.ConsultantCreated'
from consultants.consultant
union all
select tenant_id, id, 'projects', 'assignment', 'catalyst.projects.v1.ConsultantAssigned' from projects.assignment
union all
select tenant_id, id, 'time_entries', 'time_entry', 'catalyst.time_entries.v1.TimeEntryCreated'
from time_entries.time_entry;

create temp table attempt as
select f.tenant_id as victim_id, o.tenant_id as offender_id, f.n, i,
       pg_temp.id('0000000e', f.n, i) as event_id, pg_temp.id('00000002', f.n, i) as resource_id,
       pg_temp.id('00000006', f.n, i) as alert_id
from firm f join firm o on o.n = f.n % {firms} + 1, generate_series(0, f.quarter - 1) as i;

insert into audit.record
    (tenant_id, operator_only, sequence, id, event_id, type, category, severity, actor_kind, actor_id, source,
     aggregate_id, version, resource_kind, resource_id, occurred_at, recorded_at, body, hash)
select tenant_id, operator_only, sequence, gen_random_uuid(), event_id, type, category, severity, actor_kind, actor_id,
       source, id, 1, kind, id, moment, moment, '', sha256(event_id::text::bytea)
from (
    select *, row_number() over (partition by tenant_id, operator_only order by right(event_id::text, 12), event_id)
        as sequence
    from (
        select tenant_id, false as operator_only, id, id as event_id, type, 'domain' as category, 1 as severity,
               'user' as actor_kind, 'user-' || right(id::text, 1) as actor_id, source, kind
        from aggregate
        union all
        select victim_id, false, resource_id, event_id, 'catalyst.common.v1.CrossTenantAccessAttempted', 'security', 4,
               'service', 'audit', 'audit', 'project'
        from attempt
        union all
        select offender_id, true, resource_id, event_id, 'catalyst.common.v1.CrossTenantAccessAttempted', 'security', 4,
               'user', 'mallory', 'audit', 'project'
        from attempt
        union all
        select victim_id, false, alert_id, alert_id, 'catalyst.audit.v1.AlertRaised', 'domain', 1, 'service', 'audit',
               'audit', 'alert'
        from attempt
    ) as entry
) as entry, lateral (select now() - interval '30 days' + sequence * interval '1 second') as recorded (moment)
order by sequence, tenant_id;

insert into audit.chain (tenant_id, operator_only, last_sequence, last_hash)
select distinct on (tenant_id, operator_only) tenant_id, operator_only, sequence, hash
from audit.record order by tenant_id, operator_only, sequence desc;

insert into audit.registry (tenant_id, id, kind) select tenant_id, id, kind from aggregate order by id;

insert into audit.offender (tenant_id, key, actor_kind, actor_id)
select offender_id, event_id, 'user', 'mallory' from attempt order by i, n;

insert into audit.alert
    (tenant_id, id, rule, title, description, severity, dedup_key, event_id, offender_key, occurrences, first_at, last_at,
     state, acknowledged_kind, acknowledged_id, acknowledged_at, acknowledge_note, revision, created_at, updated_at,
     delivery_state, delivery_attempts, next_attempt_at)
select victim_id, alert_id, 'cross-tenant-access', 'An attempt', 'It was refused.', 4, event_id, event_id, event_id, 1, now(), now(), state, kind, kind, acknowledged_at, '', 1, now(), now(),
       'not_configured', 0, now()
from attempt, lateral (
    select case i % 3 when 2 then 'acknowledged' else 'open' end, case i % 3 when 2 then 'user' end,
           case i % 3 when 2 then now() end
) as fate (state, kind, acknowledged_at)
order by i, n;

insert into audit.delivery (tenant_id, alert_id, sink, resolves, state, attempts, next_attempt_at, accepted_at)
select tenant_id, id, 'webhook', false, 'done', 0, now(), now() from audit.alert order by id;

-- Windows and counters that do not end while the test runs.
insert into audit.flood
    (tenant_id, operator_only, key, type, severity, actor_kind, actor_id, resource_kind, source_address, began_at,
     recorded, counted, calls, first_at, last_at, resource_ids)
select tenant_id, false, pg_temp.id('0000000f', n, i), 'catalyst.common.v1.PermissionDenied', 2, 'user', 'user-' || i,
       '', '', now() + interval '1 hour', 1, 0, 0, now(), now(), '{{}}'
from firm, generate_series(0, units - 1) as i order by i, n;

insert into audit.counter (tenant_id, rule, key, event_id, offender_key, hits_at, hits_calls, expires_at)
select tenant_id, 'permission-denials', key, key, key, array[now()], array[1], now() + interval '1 hour'
from audit.flood order by key;

-- The tables that every schema has: requests of today and a few of before, the inbox, tombstones, and events set aside.
do $$
declare
    name text;
begin
    foreach name in array array['consultants', 'projects', 'time_entries', 'audit'] loop
        execute format(
            'insert into %I.request (tenant_id, actor, request_id, method, body_hash, answer, created_at)
             select tenant_id, ''user:admin'', pg_temp.id(''00000007'', n, i), '''', '''', ''{{}}'',
                    now() - case when i < 3 then interval ''2 days'' else interval ''1 minute'' end
             from firm, generate_series(0, units - 1) as i order by i, n',
            name);
        execute format(
            'insert into %I.inbox (tenant_id, event_id)
             select tenant_id, pg_temp.id(''00000008'', n, i) from firm, generate_series(0, 4 * units - 1) as i
             order by i, n',
            name);
        execute format(
            'insert into %I.tombstone (tenant_id, id, version)
             select tenant_id, pg_temp.id(''00000009'', n, i), 2 from firm, generate_series(0, units - 1) as i
             order by i, n',
            name);
        execute format(
            'insert into %I.parked (tenant_id, consumer, event_id, aggregate_id, version, failures, is_set_aside)
             select tenant_id, %L, pg_temp.id(''0000000c'', n, i),
                    pg_temp.id(case i when 0 then ''00000002'' else ''0000000d'' end, n, i), 1, 0, true
             from firm, generate_series(0, units - 1) as i order by i, n',
            name, name);
    end loop;
end
$$;

drop table firm, aggregate, attempt;
