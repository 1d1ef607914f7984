-- Roles and schema, run once by PostgreSQL's image on an empty volume (psql, as the superuser, in database "litellm").
--
-- litellm             owns LiteLLM's own tables (schema public) and nothing of ours
-- owui_budget_owner   owns schema owui_budget and runs its migrations (service "migrate")
-- owui_budget_hooks   what the hooks inside LiteLLM connect as: reads and writes rows, changes no table
-- owui_budget_sync    the same for the sync job and the command line
\set ON_ERROR_STOP on
\getenv litellm_password LITELLM_DB_PASSWORD
\getenv owner_password BUDGET_OWNER_DB_PASSWORD
\getenv hooks_password BUDGET_HOOKS_DB_PASSWORD
\getenv sync_password BUDGET_SYNC_DB_PASSWORD

CREATE ROLE litellm LOGIN PASSWORD :'litellm_password';
CREATE ROLE owui_budget_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE owui_budget_hooks LOGIN PASSWORD :'hooks_password';
CREATE ROLE owui_budget_sync LOGIN PASSWORD :'sync_password';

REVOKE ALL ON DATABASE litellm FROM PUBLIC;
GRANT CONNECT, CREATE, TEMPORARY ON DATABASE litellm TO litellm;
-- CREATE, because CREATE SCHEMA IF NOT EXISTS asks for it even where the schema exists.
GRANT CONNECT, CREATE ON DATABASE litellm TO owui_budget_owner;
GRANT CONNECT ON DATABASE litellm TO owui_budget_hooks, owui_budget_sync;

ALTER SCHEMA public OWNER TO litellm;
REVOKE ALL ON SCHEMA public FROM PUBLIC;

CREATE SCHEMA owui_budget AUTHORIZATION owui_budget_owner;
GRANT USAGE ON SCHEMA owui_budget TO owui_budget_hooks, owui_budget_sync;
ALTER DEFAULT PRIVILEGES FOR ROLE owui_budget_owner IN SCHEMA owui_budget
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO owui_budget_hooks, owui_budget_sync;
ALTER DEFAULT PRIVILEGES FOR ROLE owui_budget_owner IN SCHEMA owui_budget
    GRANT USAGE, SELECT ON SEQUENCES TO owui_budget_hooks, owui_budget_sync;
