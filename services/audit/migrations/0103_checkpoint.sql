-- A checkpoint says where the logs of all tenants end: the operator's role reads the end of every chain. It writes
-- none, and what was signed is not in this database at all.
create policy operator_read on audit.chain for select to audit_operator using (true);

grant select on audit.chain to audit_operator;
