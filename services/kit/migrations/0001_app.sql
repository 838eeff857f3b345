-- Shared by all schemas, created once by bootstrap as the administrator.
-- The tenant of the running transaction. No context means null, hence zero rows: never an error, never all rows.
-- After a commit the setting is '' and not null on that connection, hence nullif.
-- A plain stable sql function without a set clause: the planner inlines it, so that a policy costs a comparison.
create or replace function app.current_tenant_id() returns uuid
    language sql stable parallel safe
    return nullif(current_setting('app.current_tenant_id', true), '')::uuid;
