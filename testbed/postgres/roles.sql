-- `lifeboat` is what the product asks for and no more: replication and reading; no superuser, no pg_monitor.
-- The two passwords are psql variables, put before this text by the caller.
CREATE ROLE odoo LOGIN CREATEDB PASSWORD :'odoo';
CREATE ROLE lifeboat LOGIN REPLICATION PASSWORD :'lifeboat';
GRANT pg_read_all_data TO lifeboat;
