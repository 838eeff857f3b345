-- The part of a group's key that a dimension of a summary gives an entry: an id, or the first day of a period.
-- Text, so that one statement serves every grouping; it sorts as the ids and days do. Without a dimension: a dot.
-- A plain stable sql function without a set clause: the planner inlines it. Weeks begin on Monday.
create function time_entries.summary_key(dimension text, project_id uuid, consultant_id uuid, worked_on date)
    returns text
    language sql stable parallel safe
    return case dimension
        when 'project' then project_id::text
        when 'consultant' then consultant_id::text
        when 'day' then worked_on::text
        when 'week' then date_trunc('week', worked_on::timestamp)::date::text
        when 'month' then date_trunc('month', worked_on::timestamp)::date::text
        else '.'
    end;

revoke execute on function time_entries.summary_key(text, uuid, uuid, date) from public;
grant execute on function time_entries.summary_key(text, uuid, uuid, date) to time_entries_app;
