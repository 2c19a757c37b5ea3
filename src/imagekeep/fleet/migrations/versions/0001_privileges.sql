-- PostgreSQL lets PUBLIC run every new function, connect to every new database and make temporary tables in it.
-- Roles belong to the whole cluster: another fleet in it may have made them.
DO $$
DECLARE
    role_wanted text;
    public_function regprocedure;
BEGIN
    FOREACH role_wanted IN ARRAY ARRAY['imagekeep_node', 'imagekeep_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_wanted) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role_wanted);
        END IF;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role_wanted);
        EXECUTE format('GRANT USAGE ON SCHEMA fleet TO %I', role_wanted);
    END LOOP;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    REVOKE ALL ON SCHEMA public FROM PUBLIC;
    REVOKE ALL ON SCHEMA fleet FROM PUBLIC;
    REVOKE ALL ON ALL FUNCTIONS IN SCHEMA fleet FROM PUBLIC;
    REVOKE ALL ON ALL TABLES IN SCHEMA fleet FROM PUBLIC;
    ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
    -- Any role may make large objects and fill the disk with them, and hold the advisory locks under which snapshots
    -- and migrations run; only a superuser can forbid it.
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        FOR public_function IN
            SELECT oid::regprocedure FROM pg_proc
            WHERE pronamespace = 'pg_catalog'::regnamespace AND (
                proname LIKE 'lo\_%' OR proname IN ('loread', 'lowrite') OR proname ~ '^pg_(try_)?advisory_')
        LOOP
            EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', public_function);
        END LOOP;
    END IF;
END $$;

GRANT EXECUTE ON FUNCTION
    fleet.hello_v1, fleet.receive_v1, fleet.snapshot_v1, fleet.hash_v1, fleet.facts_v1, fleet.incomplete_v1
TO imagekeep_node;

GRANT SELECT ON
    fleet.node_status, fleet.node_epochs, fleet.node_references, fleet.node_images, fleet.tag_drift, fleet.layer_nodes,
    fleet.layer_images, fleet.known_digests,
    fleet.silent_nodes, fleet.node_conflicts, fleet.incomplete_references, fleet.image_totals, fleet.fleet_totals
TO imagekeep_reader;
GRANT EXECUTE ON FUNCTION fleet.node_references_at, fleet.nodes_with_image_at, fleet.image_rollout TO imagekeep_reader;
