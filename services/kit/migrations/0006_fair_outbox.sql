-- The relay takes the oldest rows of each tenant, so that no tenant waits for the backlog of another.
create index outbox_tenant_seq_idx on {schema}.outbox (tenant_id, seq);
create index security_outbox_tenant_seq_idx on {schema}.security_outbox (tenant_id, seq);

drop index {schema}.outbox_seq_idx;
drop index {schema}.security_outbox_seq_idx;
