-- What `imagekeep fleet` runs as the owner of the schema.

-- Makes the partitions of this month and of those that follow. Rows that came without theirs are in the default
-- partition, and move.
CREATE FUNCTION fleet.make_partitions(months integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    month timestamptz;
    partition text;
    made integer := 0;
BEGIN
    FOR month IN
        SELECT generate_series(first, date_trunc('month', now(), 'UTC') + make_interval(months => months), '1 month')
        FROM (SELECT least(date_trunc('month', min(valid_to), 'UTC'), date_trunc('month', now(), 'UTC')) AS first
              FROM fleet.past_references_default) AS oldest
    LOOP
        partition := to_char(month AT TIME ZONE 'UTC', '"past_references_"YYYY_MM');
        CONTINUE WHEN to_regclass('fleet.' || partition) IS NOT NULL;
        EXECUTE format('CREATE TABLE fleet.%I (LIKE fleet.past_references INCLUDING ALL)', partition);
        EXECUTE format(
            'WITH moved AS (DELETE FROM fleet.past_references_default WHERE valid_to >= %L AND valid_to < %L RETURNING *)
             INSERT INTO fleet.%I SELECT * FROM moved', month, month + interval '1 month', partition);
        EXECUTE format('ALTER TABLE fleet.past_references ATTACH PARTITION fleet.%I FOR VALUES FROM (%L) TO (%L)',
            partition, month, month + interval '1 month');
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;

-- Deletes the past that ended before a time, and every name, image, target, fact and layer that nothing mentions any
-- more; counts the nodes' quotas again. Shipments wait for it.
CREATE FUNCTION fleet.prune(before timestamptz,
                            OUT ranges bigint, OUT pointings bigint, OUT names bigint, OUT images bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    partition record;
    gone bigint;
BEGIN
    LOCK TABLE fleet.nodes IN EXCLUSIVE MODE;
    ranges := 0;
    FOR partition IN
        SELECT c.relname, to_timestamp(right(c.relname, 7), 'YYYY_MM') AT TIME ZONE 'UTC' AS month
        FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'fleet.past_references'::regclass AND c.relname ~ '_\d{4}_\d\d$'
    LOOP
        EXECUTE format('DELETE FROM fleet.%I WHERE valid_to < %L', partition.relname, before);
        GET DIAGNOSTICS gone = ROW_COUNT;
        ranges := ranges + gone;
        IF partition.month + interval '1 month' < before AT TIME ZONE 'UTC' THEN
            EXECUTE format('DROP TABLE fleet.%I', partition.relname);
        END IF;
    END LOOP;
    DELETE FROM fleet.past_references_default WHERE valid_to < before;
    GET DIAGNOSTICS gone = ROW_COUNT;
    ranges := ranges + gone;
    DELETE FROM fleet.pointings AS p
    WHERE NOT EXISTS (SELECT FROM fleet.current_references AS c WHERE c.pointing_key = p.pointing_key)
        AND NOT EXISTS (SELECT FROM fleet.past_references AS c WHERE c.pointing_key = p.pointing_key);
    GET DIAGNOSTICS pointings = ROW_COUNT;
    DELETE FROM fleet.names AS n WHERE NOT EXISTS (SELECT FROM fleet.pointings AS p WHERE p.name_key = n.name_key);
    GET DIAGNOSTICS names = ROW_COUNT;
    DELETE FROM fleet.images AS i WHERE NOT EXISTS (SELECT FROM fleet.pointings AS p WHERE p.image_key = i.image_key);
    GET DIAGNOSTICS images = ROW_COUNT;
    DELETE FROM fleet.targets AS t WHERE NOT EXISTS (SELECT FROM fleet.pointings AS p WHERE p.target_key = t.target_key);
    DELETE FROM fleet.image_facts AS f WHERE NOT EXISTS (SELECT FROM fleet.images AS i WHERE i.id = f.id);
    DELETE FROM fleet.fact_conflicts AS f WHERE NOT EXISTS (SELECT FROM fleet.images AS i WHERE i.id = f.id);
    DELETE FROM fleet.image_layers AS l WHERE NOT EXISTS (SELECT FROM fleet.image_facts AS f WHERE f.id = l.id);
    DELETE FROM fleet.layers AS l WHERE NOT EXISTS (SELECT FROM fleet.image_layers AS i WHERE i.layer_key = l.layer_key);
    UPDATE fleet.nodes AS n SET
        pointings_added = (SELECT coalesce(sum(fleet.weight(m.name)), 0)
                           FROM fleet.pointings AS p JOIN fleet.names AS m ON m.name_key = p.name_key
                           WHERE p.brought_by = n.node_key),
        layers_added = (SELECT count(*) FROM fleet.image_facts AS f JOIN fleet.image_layers AS l ON l.id = f.id
                        WHERE f.claimed_by = n.node_key)
    WHERE pointings_added > 0 OR layers_added > 0;
END $$;

-- Makes a node, or gives a known one another role; returns the role to drop, if there is one.
CREATE FUNCTION fleet.enroll(p_node text, p_role name) RETURNS name
LANGUAGE plpgsql AS $$
DECLARE
    before name := (SELECT role_name FROM fleet.nodes WHERE name = p_node FOR UPDATE);
BEGIN
    INSERT INTO fleet.nodes (name, role_name) VALUES (p_node, p_role)
    ON CONFLICT (name) DO UPDATE SET role_name = excluded.role_name, status = 'enrolled',
        enrolled_at = clock_timestamp();
    RETURN before;
END $$;

-- Ends all ranges of a node and refuses it from now on; returns its role, to be dropped.
CREATE FUNCTION fleet.revoke(p_node text) RETURNS name
LANGUAGE plpgsql AS $$
DECLARE
    node fleet.nodes;
BEGIN
    SELECT * INTO node FROM fleet.nodes WHERE name = p_node FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    WITH gone AS (
        DELETE FROM fleet.current_references AS c WHERE c.node_key = node.node_key RETURNING *
    )
    INSERT INTO fleet.past_references
        (node_key, name_key, pointing_key, epoch, sequence, to_sequence, valid_from, valid_to, said_at, pinned)
    SELECT node_key, name_key, pointing_key, epoch, sequence, NULL, valid_from, clock_timestamp(), said_at, pinned
    FROM gone;
    DELETE FROM fleet.node_incomplete AS i WHERE i.node_key = node.node_key;
    UPDATE fleet.nodes AS n SET
        status = 'revoked', store_id = NULL, incomplete_hash = NULL, sequence = 0, cursor_row = NULL
    WHERE n.node_key = node.node_key;
    RETURN node.role_name;
END $$;
