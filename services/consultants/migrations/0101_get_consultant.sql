-- Reads a consultant in one round trip: the tenant's context and the row under one statement. The function runs with
-- the caller's rights, so the policy holds; the context ends with it, since its definition sets it.
create function consultants.get_consultant(tenant uuid, consultant uuid) returns setof consultants.consultant
    language plpgsql volatile security invoker rows 1
    set app.current_tenant_id = ''
as $$
begin
    perform set_config('app.current_tenant_id', tenant::text, true);
    return query select * from consultants.consultant as c where c.tenant_id = tenant and c.id = consultant;
end
$$;

revoke execute on function consultants.get_consultant(uuid, uuid) from public;
grant execute on function consultants.get_consultant(uuid, uuid) to consultants_app;
