-- Reads a project in one round trip: the tenant's context and the row under one statement. The function runs with the
-- caller's rights, so the policy holds; the context ends with it, since its definition sets it.
create function projects.get_project(tenant uuid, project uuid) returns setof projects.project
    language plpgsql volatile security invoker rows 1
    set app.current_tenant_id = ''
as $$
begin
    perform set_config('app.current_tenant_id', tenant::text, true);
    return query select * from projects.project as p where p.tenant_id = tenant and p.id = project;
end
$$;

revoke execute on function projects.get_project(uuid, uuid) from public;
grant execute on function projects.get_project(uuid, uuid) to projects_app;
