-- The protocol of the nodes: the functions whose names end in _v1. Each runs as the owner, knows the node by
-- session_user, and refuses by an error with one of these codes, whose message says why:
--
--   IK001  the role is not an enrolled node's, or the node is conflicted or revoked
--   IK002  the protocol is not spoken here
--   IK003  the cursor has moved: say hello again
--   IK004  too busy: try again later
--   IK005  an argument is malformed, or over a limit

CREATE FUNCTION fleet.refuse(code text, why text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = code, MESSAGE = why;
END $$;

CREATE FUNCTION fleet.setting(which text) RETURNS bigint
LANGUAGE sql STABLE AS $$ SELECT value FROM fleet.settings WHERE name = which $$;

-- Locks the caller's row until the transaction ends, so that the shipments of a node run one after the other.
CREATE FUNCTION fleet.lock_node() RETURNS fleet.nodes
LANGUAGE plpgsql AS $$
DECLARE
    node fleet.nodes;
BEGIN
    SELECT * INTO node FROM fleet.nodes WHERE role_name = session_user FOR NO KEY UPDATE;
    IF NOT FOUND OR node.status = 'revoked' THEN
        PERFORM fleet.refuse('IK001', format('role %s is not an enrolled node', session_user));
    ELSIF node.status = 'conflicted' THEN
        PERFORM fleet.refuse('IK001', format(
            'node %s is conflicted: more than one store ships under its name', node.name));
    END IF;
    RETURN node;
END $$;

-- The same, for a call that goes on from a cursor. The row under it must be the one that the node has there.
CREATE FUNCTION fleet.lock_cursor(p_epoch integer, p_sequence bigint, p_row bytea) RETURNS fleet.nodes
LANGUAGE plpgsql AS $$
DECLARE
    node fleet.nodes := fleet.lock_node();
BEGIN
    IF (node.epoch, node.sequence, node.cursor_row) IS DISTINCT FROM (p_epoch, p_sequence, p_row) THEN
        PERFORM fleet.refuse('IK003', format(
            'node %s is at sequence %s of epoch %s, not at %s of %s (or at another row)',
            node.name, node.sequence, node.epoch, p_sequence, p_epoch));
    END IF;
    RETURN node;
END $$;

CREATE FUNCTION fleet.require_arrays(size_limit bigint, lengths integer[], dimensions integer[], bytes bigint,
                                     byte_limit bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF lengths[1] IS NULL OR EXISTS (SELECT FROM unnest(lengths) AS l WHERE l IS DISTINCT FROM lengths[1]) THEN
        PERFORM fleet.refuse('IK005', 'the arrays have unlike lengths');
    ELSIF EXISTS (SELECT FROM unnest(dimensions) AS d WHERE d <> 1) THEN
        PERFORM fleet.refuse('IK005', 'an array has more than one dimension');
    ELSIF lengths[1] > size_limit THEN
        PERFORM fleet.refuse('IK005', format('%s rows, where a call may have %s', lengths[1], size_limit));
    ELSIF bytes > byte_limit THEN
        PERFORM fleet.refuse('IK005', format('%s bytes, where a call may have %s', bytes, byte_limit));
    END IF;
END $$;

-- Refuses times that clients cannot read, which would break the views for every reader.
CREATE FUNCTION fleet.require_times(times timestamptz[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM unnest(times) AS t
               WHERE t NOT BETWEEN '0001-01-02 00:00Z'::timestamptz AND '9999-12-30 00:00Z'::timestamptz) THEN
        PERFORM fleet.refuse('IK005', 'a time is not within the years 1 to 9999');
    END IF;
END $$;

-- What a pointing takes of a quota: 1, and 1 more for each kilobyte of its name.
CREATE FUNCTION fleet.weight(name text) RETURNS integer
LANGUAGE sql IMMUTABLE AS $$ SELECT 1 + octet_length(name) / 1024 $$;

CREATE FUNCTION fleet.require_quota(node fleet.nodes, brought bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF node.pointings_added + brought > fleet.setting('pointings_per_node') THEN
        PERFORM fleet.refuse('IK005', format(
            'node %s has brought more names and images than its quota of %s (run `imagekeep fleet prune`)',
            node.name, fleet.setting('pointings_per_node')));
    END IF;
END $$;

-- Makes the rows of names, images, targets and pointings that are missing, in one order for all, so that no two nodes
-- wait for each other. Returns the weight of the pointings that it made: no name, image or target is new without one.
-- A quota is checked against the new names before anything is written, so that refused calls cost no disk.
CREATE FUNCTION fleet.intern(node fleet.nodes, p_names text[], p_ids text[], p_sizes bigint[], p_targets text[])
RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    made integer;
BEGIN
    IF EXISTS (
        SELECT FROM unnest(p_names, p_ids, p_sizes, p_targets) AS r (name, id, size, target)
        WHERE id IS NOT NULL AND (
            octet_length(name) NOT BETWEEN 1 AND 65536
            OR id !~ '^sha(256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})$'
            OR target !~ '^sha(256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})$')
    ) THEN
        PERFORM fleet.refuse('IK005', 'a name is empty or too long, or an image id or target is no digest');
    END IF;
    IF NOT EXISTS (  -- the usual case: all are known
        SELECT FROM unnest(p_names, p_ids, p_sizes, p_targets) AS r (name, id, size, target)
        WHERE r.id IS NOT NULL AND r.name IS NOT NULL AND NOT EXISTS (
            SELECT FROM fleet.names AS n
            JOIN fleet.pointings AS p ON p.name_key = n.name_key
            JOIN fleet.images AS i ON i.image_key = p.image_key
            LEFT JOIN fleet.targets AS t ON t.target_key = p.target_key
            WHERE n.name = r.name AND i.id = r.id AND i.size IS NOT DISTINCT FROM r.size
                AND t.digest IS NOT DISTINCT FROM r.target)
    ) THEN
        RETURN 0;
    END IF;
    PERFORM fleet.require_quota(node, greatest(1, (
        SELECT sum(fleet.weight(m.name)) FROM (
            SELECT DISTINCT r.name FROM unnest(p_names, p_ids) AS r (name, id)
            WHERE r.id IS NOT NULL AND r.name IS NOT NULL
                AND NOT EXISTS (SELECT FROM fleet.names AS n WHERE n.name = r.name)
        ) AS m)));
    INSERT INTO fleet.names (name)
    SELECT DISTINCT r.name FROM unnest(p_names, p_ids) AS r (name, id)
    WHERE r.id IS NOT NULL AND r.name IS NOT NULL
        AND NOT EXISTS (SELECT FROM fleet.names AS n WHERE n.name = r.name)
    ORDER BY 1 ON CONFLICT DO NOTHING;
    INSERT INTO fleet.images (id, size)
    SELECT DISTINCT r.id, r.size FROM unnest(p_ids, p_sizes, p_names) AS r (id, size, name)
    WHERE r.id IS NOT NULL AND r.name IS NOT NULL AND NOT EXISTS (
        SELECT FROM fleet.images AS i WHERE i.id = r.id AND i.size IS NOT DISTINCT FROM r.size)
    ORDER BY 1, 2 ON CONFLICT DO NOTHING;
    INSERT INTO fleet.targets (digest)
    SELECT DISTINCT r.target FROM unnest(p_targets, p_ids, p_names) AS r (target, id, name)
    WHERE r.target IS NOT NULL AND r.id IS NOT NULL AND r.name IS NOT NULL
        AND NOT EXISTS (SELECT FROM fleet.targets AS t WHERE t.digest = r.target)
    ORDER BY 1 ON CONFLICT DO NOTHING;
    WITH added AS (
        INSERT INTO fleet.pointings (name_key, image_key, target_key, brought_by)
        SELECT DISTINCT n.name_key, i.image_key, t.target_key, node.node_key
        FROM unnest(p_names, p_ids, p_sizes, p_targets) AS r (name, id, size, target)
        JOIN fleet.names AS n ON n.name = r.name
        JOIN fleet.images AS i ON i.id = r.id AND i.size IS NOT DISTINCT FROM r.size
        LEFT JOIN fleet.targets AS t ON t.digest = r.target
        WHERE NOT EXISTS (
            SELECT FROM fleet.pointings AS p WHERE p.name_key = n.name_key AND p.image_key = i.image_key
                AND p.target_key IS NOT DISTINCT FROM t.target_key)
        ORDER BY 1, 2, 3 ON CONFLICT DO NOTHING
        RETURNING name_key
    )
    SELECT coalesce(sum(fleet.weight(n.name)), 0) INTO made
    FROM added AS a JOIN fleet.names AS n ON n.name_key = a.name_key;
    PERFORM fleet.require_quota(node, made);
    RETURN made;
END $$;

-- The ids, among these, of which no facts are known, or only one other node's.
CREATE FUNCTION fleet.lacking(p_node integer, p_ids text[]) RETURNS text[]
LANGUAGE sql STABLE AS $$
    SELECT coalesce(array_agg(id), '{}') FROM (
        SELECT DISTINCT u.id FROM unnest(p_ids) AS u (id)
        WHERE u.id IS NOT NULL AND NOT EXISTS (
            SELECT FROM fleet.image_facts AS f
            WHERE f.id = u.id AND (f.claimed_by = p_node OR f.confirmed_by IS NOT NULL OR f.verified))
            AND NOT EXISTS (SELECT FROM fleet.fact_conflicts AS c WHERE c.id = u.id AND c.node_key = p_node)
        ORDER BY 1 LIMIT 100
    ) AS missing
$$;

CREATE FUNCTION fleet.hello_v1(
    p_protocol integer, p_version text, p_revision text, p_store_id text, p_now timestamptz,
    p_sequence bigint, p_row bytea, p_watcher_connected_at timestamptz, p_oldest_verified_at timestamptz,
    OUT epoch integer, OUT sequence bigint, OUT cursor_row bytea, OUT store_id text,
    OUT origin_sequence bigint, OUT origin_row bytea, OUT hash_due boolean, OUT incomplete_hash bytea,
    OUT clock timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    node fleet.nodes := fleet.lock_node();
BEGIN
    IF p_protocol IS DISTINCT FROM 1 THEN
        PERFORM fleet.refuse('IK002', format('protocol %s is not spoken here, only 1 (upgrade the centre, or '
            'use the imagekeep of its release on the node)', p_protocol));
    ELSIF octet_length(p_version) > 100 OR octet_length(p_revision) > 100 OR octet_length(p_store_id) > 100
        OR p_store_id IS NULL OR p_now IS NULL THEN
        PERFORM fleet.refuse('IK005', 'a field of the greeting is missing or too long');
    END IF;
    PERFORM fleet.require_times(ARRAY[p_now, p_watcher_connected_at, p_oldest_verified_at]);
    UPDATE fleet.nodes AS n SET
        status = 'active', reported_at = clock_timestamp(), protocol = p_protocol, version = p_version,
        revision = p_revision,
        clock_offset = p_now - clock_timestamp(),
        watcher_connected_at = p_watcher_connected_at, oldest_verified_at = p_oldest_verified_at,
        seen_at = CASE WHEN n.store_id = p_store_id AND n.sequence = p_sequence AND n.cursor_row = p_row
            THEN clock_timestamp() ELSE n.seen_at END
    WHERE n.node_key = node.node_key;
    epoch := node.epoch; sequence := node.sequence; cursor_row := node.cursor_row; store_id := node.store_id;
    origin_sequence := node.origin_sequence; origin_row := node.origin_row;
    hash_due := node.hashed_at IS NULL
        OR node.hashed_at < clock_timestamp() - make_interval(secs => fleet.setting('hash_seconds'));
    incomplete_hash := node.incomplete_hash;
    clock := clock_timestamp();
END $$;

-- Takes the rows that follow a cursor, whole or not at all. Row i is the one with sequence p_after + i; it has no name
-- if the fleet does not keep it, and no image id if the reference vanished. Returns the ids whose facts are wanted.
CREATE FUNCTION fleet.receive_v1(
    p_epoch integer, p_after bigint, p_after_row bytea, p_last_row bytea, p_more boolean,
    p_names text[], p_ids text[], p_sizes bigint[], p_targets text[], p_pinned boolean[], p_at timestamptz[])
RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    node fleet.nodes := fleet.lock_cursor(p_epoch, p_after, p_after_row);
    now_here timestamptz := clock_timestamp();
    floor_at timestamptz;
    brought integer;
    changed bigint;
BEGIN
    PERFORM fleet.require_arrays(
        fleet.setting('rows_per_call'),
        ARRAY[cardinality(p_at), cardinality(p_names), cardinality(p_ids), cardinality(p_sizes),
              cardinality(p_targets), cardinality(p_pinned)],
        ARRAY[array_ndims(p_at), array_ndims(p_names), array_ndims(p_ids), array_ndims(p_sizes),
              array_ndims(p_targets), array_ndims(p_pinned)],
        pg_column_size(p_names) + pg_column_size(p_ids) + pg_column_size(p_targets)::bigint,
        fleet.setting('bytes_per_call'));
    IF node.epoch = 0 OR cardinality(p_at) = 0 OR p_after > 4611686018427387904 OR p_last_row IS NULL
        OR octet_length(p_last_row) <> 32 THEN
        PERFORM fleet.refuse('IK005', 'no rows, no epoch, or a malformed cursor');
    ELSIF EXISTS (SELECT FROM unnest(p_names, p_pinned, p_at) AS r (name, pinned, at)
                  WHERE name IS NOT NULL AND (pinned IS NULL OR at IS NULL)) THEN
        PERFORM fleet.refuse('IK005', 'a row has no pin or no time');
    END IF;
    PERFORM fleet.require_times(p_at);
    brought := fleet.intern(node, p_names, p_ids, p_sizes, p_targets);
    -- A node whose clock is behind dates nothing before it was last seen without changes.
    floor_at := CASE WHEN node.clock_offset < interval '-10 seconds'
        THEN greatest(node.last_at, node.seen_at) ELSE node.last_at END;
    WITH batch AS MATERIALIZED (
        SELECT p_after + r.place AS sequence, n.name_key, p.pointing_key,
            coalesce(r.pinned AND r.id IS NOT NULL, false) AS pinned, r.at,
            least(now_here, greatest(floor_at, max(r.at) OVER (ORDER BY r.place))) AS valid_from
        FROM unnest(p_names, p_ids, p_sizes, p_targets, p_pinned, p_at)
            WITH ORDINALITY AS r (name, id, size, target, pinned, at, place)
        JOIN fleet.names AS n ON n.name = r.name
        LEFT JOIN fleet.images AS i ON i.id = r.id AND i.size IS NOT DISTINCT FROM r.size
        LEFT JOIN fleet.targets AS t ON t.digest = r.target AND r.id IS NOT NULL
        LEFT JOIN fleet.pointings AS p ON p.name_key = n.name_key AND p.image_key = i.image_key
            AND p.target_key IS NOT DISTINCT FROM t.target_key
    ), known AS (
        SELECT c.* FROM fleet.current_references AS c
        WHERE c.node_key = node.node_key AND c.name_key IN (SELECT b.name_key FROM batch AS b)
    ), chain AS (
        SELECT 0 AS place, k.name_key, k.pointing_key, k.pinned, k.epoch, k.sequence, k.valid_from, k.said_at
        FROM known AS k
        UNION ALL
        SELECT b.sequence - p_after, b.name_key, b.pointing_key, b.pinned, node.epoch, b.sequence, b.valid_from,
            CASE WHEN b.at <> b.valid_from THEN b.at END
        FROM batch AS b
    ), steps AS (
        SELECT c.*, row_number() OVER w AS step, lag(c.pointing_key) OVER w AS pointing_before,
            lag(c.pinned) OVER w AS pinned_before
        FROM chain AS c WINDOW w AS (PARTITION BY c.name_key ORDER BY c.place)
    ), spans AS (  -- a row that changes nothing opens no range
        SELECT s.*, lead(s.sequence) OVER w AS to_sequence, lead(s.valid_from) OVER w AS valid_to
        FROM steps AS s
        WHERE s.step = 1
            OR (s.pointing_key, s.pinned) IS DISTINCT FROM (s.pointing_before, s.pinned_before)
        WINDOW w AS (PARTITION BY s.name_key ORDER BY s.place)
    ), closed AS (
        INSERT INTO fleet.past_references
            (node_key, name_key, pointing_key, epoch, sequence, to_sequence, valid_from, valid_to, said_at, pinned)
        SELECT node.node_key, s.name_key, s.pointing_key, s.epoch, s.sequence, s.to_sequence, s.valid_from,
            s.valid_to, s.said_at, s.pinned
        FROM spans AS s WHERE s.pointing_key IS NOT NULL AND s.to_sequence IS NOT NULL
    ), gone AS (
        DELETE FROM fleet.current_references AS c USING spans AS s
        WHERE c.node_key = node.node_key AND c.name_key = s.name_key
            AND s.to_sequence IS NULL AND s.pointing_key IS NULL
    ), opened AS (
        INSERT INTO fleet.current_references AS c
            (node_key, name_key, pointing_key, epoch, sequence, valid_from, said_at, pinned)
        SELECT node.node_key, s.name_key, s.pointing_key, s.epoch, s.sequence, s.valid_from, s.said_at, s.pinned
        FROM spans AS s WHERE s.to_sequence IS NULL AND s.pointing_key IS NOT NULL AND s.place > 0
        ON CONFLICT (node_key, name_key) DO UPDATE SET
            pointing_key = excluded.pointing_key, epoch = excluded.epoch, sequence = excluded.sequence,
            valid_from = excluded.valid_from, said_at = excluded.said_at, pinned = excluded.pinned
    )
    SELECT count(*) FILTER (WHERE b.at <> b.valid_from) INTO changed FROM batch AS b;
    UPDATE fleet.nodes AS n SET
        sequence = p_after + cardinality(p_at), cursor_row = p_last_row, clamped = n.clamped + changed,
        last_at = least(now_here, greatest(floor_at, (SELECT max(a) FROM unnest(p_at) AS a))),
        seen_at = CASE WHEN p_more THEN n.seen_at ELSE n.reported_at END,
        reported_at = now_here, pointings_added = n.pointings_added + brought
    WHERE n.node_key = node.node_key;
    RETURN fleet.lacking(node.node_key, p_ids);
END $$;

-- Replaces the node's state, in a new epoch. What is equal stays open, with its time. Returns no epoch if this was one
-- epoch too many within an hour: the node is conflicted from then on.
CREATE FUNCTION fleet.snapshot_v1(
    p_epoch integer, p_before bigint, p_before_row bytea, p_reason text, p_store_id text,
    p_sequence bigint, p_row bytea, p_origin_sequence bigint, p_origin_row bytea,
    p_names text[], p_ids text[], p_sizes bigint[], p_targets text[], p_pinned boolean[],
    OUT epoch integer, OUT lacking text[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    node fleet.nodes := fleet.lock_cursor(p_epoch, p_before, p_before_row);
    now_here timestamptz := clock_timestamp();
    brought integer;
    places bigint := fleet.setting('snapshots_at_once');
    place bigint := 0;
BEGIN
    IF (SELECT count(*) FROM fleet.epochs AS e WHERE e.node_key = node.node_key AND e.reason <> 'new'
            AND e.began_at > greatest(now_here - interval '1 hour', node.enrolled_at)) >= fleet.setting('epochs_per_hour') THEN
        UPDATE fleet.nodes AS n SET status = 'conflicted' WHERE n.node_key = node.node_key;
        RETURN;
    END IF;
    PERFORM fleet.require_arrays(
        fleet.setting('snapshot_rows'),
        ARRAY[cardinality(p_names), cardinality(p_ids), cardinality(p_sizes), cardinality(p_targets),
              cardinality(p_pinned)],
        ARRAY[array_ndims(p_names), array_ndims(p_ids), array_ndims(p_sizes), array_ndims(p_targets),
              array_ndims(p_pinned)],
        pg_column_size(p_names) + pg_column_size(p_ids) + pg_column_size(p_targets)::bigint,
        fleet.setting('snapshot_bytes'));
    IF p_reason IS NULL OR p_reason NOT IN ('new', 'restored', 'reinstalled', 'gap', 'hash')
        OR (p_reason = 'new') <> (node.epoch = 0)  -- a new node's epoch is not counted among those of an hour
        OR p_store_id IS NULL OR octet_length(p_store_id) > 100
        OR p_sequence IS NULL OR p_sequence NOT BETWEEN 0 AND 4611686018427387904
        OR (octet_length(p_row) = 32) IS DISTINCT FROM (CASE WHEN p_sequence > 0 THEN true END)
        OR p_origin_sequence NOT BETWEEN 0 AND 4611686018427387904
        OR octet_length(p_origin_row) <> 32 THEN
        PERFORM fleet.refuse('IK005', 'a malformed snapshot');
    ELSIF EXISTS (SELECT FROM unnest(p_names, p_ids, p_pinned) AS r (name, id, pinned)
                  WHERE name IS NULL OR id IS NULL OR pinned IS NULL)
        OR (SELECT count(DISTINCT name) FROM unnest(p_names) AS name) < cardinality(p_names) THEN
        PERFORM fleet.refuse('IK005', 'a reference of the snapshot lacks a field, or is there twice');
    END IF;
    WHILE NOT pg_try_advisory_xact_lock(1768776043, place::integer) LOOP
        place := place + 1;
        IF place >= places THEN
            PERFORM fleet.refuse('IK004', 'as many snapshots run as may at once');
        END IF;
    END LOOP;
    brought := fleet.intern(node, p_names, p_ids, p_sizes, p_targets);
    epoch := node.epoch + 1;
    WITH state AS MATERIALIZED (
        SELECT n.name_key, p.pointing_key, r.pinned
        FROM unnest(p_names, p_ids, p_sizes, p_targets, p_pinned) AS r (name, id, size, target, pinned)
        JOIN fleet.names AS n ON n.name = r.name
        JOIN fleet.images AS i ON i.id = r.id AND i.size IS NOT DISTINCT FROM r.size
        LEFT JOIN fleet.targets AS t ON t.digest = r.target
        JOIN fleet.pointings AS p ON p.name_key = n.name_key AND p.image_key = i.image_key
            AND p.target_key IS NOT DISTINCT FROM t.target_key
    ), unlike AS (
        SELECT c.* FROM fleet.current_references AS c LEFT JOIN state AS s ON s.name_key = c.name_key
        WHERE c.node_key = node.node_key
            AND (c.pointing_key, c.pinned) IS DISTINCT FROM (s.pointing_key, s.pinned)
    ), closed AS (
        INSERT INTO fleet.past_references
            (node_key, name_key, pointing_key, epoch, sequence, to_sequence, valid_from, valid_to, said_at, pinned)
        SELECT u.node_key, u.name_key, u.pointing_key, u.epoch, u.sequence, NULL, u.valid_from, now_here, u.said_at,
            u.pinned
        FROM unlike AS u
    ), gone AS (
        DELETE FROM fleet.current_references AS c USING unlike AS u
        WHERE c.node_key = u.node_key AND c.name_key = u.name_key
            AND NOT EXISTS (SELECT FROM state AS s WHERE s.name_key = u.name_key)
    )
    INSERT INTO fleet.current_references AS c
        (node_key, name_key, pointing_key, epoch, sequence, valid_from, said_at, pinned)
    SELECT node.node_key, s.name_key, s.pointing_key, node.epoch + 1, p_sequence, now_here, NULL, s.pinned
    FROM state AS s
    WHERE NOT EXISTS (
        SELECT FROM fleet.current_references AS k WHERE k.node_key = node.node_key AND k.name_key = s.name_key
            AND k.pointing_key = s.pointing_key AND k.pinned = s.pinned)
    ON CONFLICT (node_key, name_key) DO UPDATE SET
        pointing_key = excluded.pointing_key, epoch = excluded.epoch, sequence = excluded.sequence,
        valid_from = excluded.valid_from, said_at = NULL, pinned = excluded.pinned;
    INSERT INTO fleet.epochs (node_key, epoch, began_at, reason, from_sequence, store_id)
    VALUES (node.node_key, node.epoch + 1, now_here, p_reason, p_sequence, p_store_id);
    UPDATE fleet.nodes AS n SET
        epoch = node.epoch + 1, sequence = p_sequence, cursor_row = p_row, store_id = p_store_id,
        origin_sequence = p_origin_sequence, origin_row = p_origin_row, last_at = now_here, seen_at = now_here,
        reported_at = now_here, hashed_at = NULL, state_hash = NULL, pointings_added = n.pointings_added + brought
    WHERE n.node_key = node.node_key;
    lacking := fleet.lacking(node.node_key, p_ids);
END $$;

-- The sha256 of a node's state: of each reference, in the order of names as bytes, the name, the image's id and size,
-- the target and the pin, each followed by a zero byte.
CREATE FUNCTION fleet.hash_of_state(p_node integer) RETURNS bytea
LANGUAGE sql STABLE AS $$
    SELECT sha256(coalesce(string_agg(
        convert_to(n.name, 'UTF8') || '\x00'::bytea || convert_to(i.id, 'UTF8') || '\x00'::bytea
        || convert_to(coalesce(i.size::text, ''), 'UTF8') || '\x00'::bytea
        || convert_to(coalesce(t.digest, ''), 'UTF8') || '\x00'::bytea
        || CASE WHEN c.pinned THEN '\x3100'::bytea ELSE '\x3000'::bytea END, '\x'::bytea ORDER BY n.name COLLATE "C"
    ), '\x'::bytea))
    FROM fleet.current_references AS c
    JOIN fleet.pointings AS p ON p.pointing_key = c.pointing_key
    JOIN fleet.names AS n ON n.name_key = p.name_key
    JOIN fleet.images AS i ON i.image_key = p.image_key
    LEFT JOIN fleet.targets AS t ON t.target_key = p.target_key
    WHERE c.node_key = p_node
$$;

-- Returns whether the node's state at the cursor has this hash, and ids whose facts are wanted.
CREATE FUNCTION fleet.hash_v1(p_epoch integer, p_sequence bigint, p_row bytea, p_hash bytea,
                              OUT equal boolean, OUT lacking text[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    node fleet.nodes := fleet.lock_cursor(p_epoch, p_sequence, p_row);
    here bytea := fleet.hash_of_state(node.node_key);
BEGIN
    equal := here IS NOT DISTINCT FROM p_hash;
    IF equal THEN
        UPDATE fleet.nodes AS n SET state_hash = here, hashed_at = clock_timestamp(), reported_at = clock_timestamp()
        WHERE n.node_key = node.node_key;
    END IF;
    lacking := fleet.lacking(node.node_key, (
        SELECT array_agg(DISTINCT i.id) FROM fleet.current_references AS c
        JOIN fleet.pointings AS p ON p.pointing_key = c.pointing_key
        JOIN fleet.images AS i ON i.image_key = p.image_key
        WHERE c.node_key = node.node_key));
END $$;

-- The facts of a call, for the images that the node has now.
CREATE FUNCTION fleet.claims_in(p_node integer, facts jsonb)
RETURNS TABLE (id text, chain_id text, os text, architecture text, variant text, created text, layers text[])
LANGUAGE sql STABLE AS $$
    SELECT DISTINCT ON (fact ->> 'id') fact ->> 'id', fact ->> 'chain_id', fact ->> 'os', fact ->> 'architecture',
        fact ->> 'variant', fact ->> 'created',
        ARRAY(SELECT diff_id FROM jsonb_array_elements_text(fact -> 'layers') WITH ORDINALITY AS l (diff_id, place)
              ORDER BY place)
    FROM jsonb_array_elements(facts) AS f (fact)
    WHERE EXISTS (
        SELECT FROM fleet.images AS i
        JOIN fleet.pointings AS p ON p.image_key = i.image_key
        JOIN fleet.current_references AS c ON c.pointing_key = p.pointing_key AND c.node_key = p_node
        WHERE i.id = fact ->> 'id')
    ORDER BY fact ->> 'id'
$$;

-- What is recorded of an image, in the form of claims_in.
CREATE FUNCTION fleet.claim_of(f fleet.image_facts) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'id', f.id, 'chain_id', f.chain_id, 'os', f.os, 'architecture', f.architecture, 'variant', f.variant,
        'created', f.created, 'layers', ARRAY(
            SELECT l.diff_id FROM fleet.image_layers AS i JOIN fleet.layers AS l ON l.layer_key = i.layer_key
            WHERE i.id = f.id ORDER BY i.position))
$$;

-- Takes what configs say of images: [{"id", "chain_id", "os", "architecture", "variant", "created", "layers": []}].
-- The first claim stays; a second one confirms it, or is kept as a conflict.
CREATE FUNCTION fleet.facts_v1(p_text text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    node fleet.nodes := fleet.lock_node();
    facts jsonb;
    described bigint;
BEGIN
    IF octet_length(p_text) > fleet.setting('bytes_per_call') THEN  -- parsed, it takes many times as much
        PERFORM fleet.refuse('IK005', format('%s bytes, where a call may have %s',
            octet_length(p_text), fleet.setting('bytes_per_call')));
    END IF;
    BEGIN
        facts := p_text::jsonb;
    EXCEPTION WHEN data_exception OR program_limit_exceeded OR statement_too_complex THEN
        PERFORM fleet.refuse('IK005', 'facts are no JSON that PostgreSQL can hold');
    END;
    IF facts IS NULL OR jsonb_typeof(facts) <> 'array' OR jsonb_array_length(facts) > 100 THEN
        PERFORM fleet.refuse('IK005', 'facts are an array of at most 100 images');
    END IF;
    IF EXISTS (
        SELECT FROM jsonb_array_elements(facts) AS f (fact)
        WHERE jsonb_typeof(fact) <> 'object' OR NOT fact ?& ARRAY['id', 'layers']
            OR jsonb_typeof(fact -> 'layers') <> 'array' OR jsonb_typeof(fact -> 'id') <> 'string'
            OR fact ->> 'id' !~ '^sha(256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})$'
            OR jsonb_array_length(fact -> 'layers') > fleet.setting('layers_per_image')
            OR octet_length(concat(fact ->> 'chain_id', fact ->> 'os', fact ->> 'architecture', fact ->> 'variant',
                                   fact ->> 'created')) > 1000
    ) OR EXISTS (
        SELECT FROM jsonb_array_elements(facts) AS f (fact), jsonb_array_elements_text(fact -> 'layers') AS l (diff_id)
        WHERE diff_id IS NULL OR diff_id !~ '^sha(256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})$'
    ) THEN
        PERFORM fleet.refuse('IK005', 'facts of an image are malformed or too long');
    END IF;
    described := (SELECT sum(jsonb_array_length(fact -> 'layers')) FROM jsonb_array_elements(facts) AS f (fact));
    IF node.layers_added + described > fleet.setting('layers_per_node') THEN
        PERFORM fleet.refuse('IK005', format('node %s has described more layers than its quota of %s',
            node.name, fleet.setting('layers_per_node')));
    END IF;
    INSERT INTO fleet.layers (diff_id)
    SELECT DISTINCT u.diff_id FROM fleet.claims_in(node.node_key, facts) AS c, unnest(c.layers) AS u (diff_id)
    WHERE NOT EXISTS (SELECT FROM fleet.layers AS l WHERE l.diff_id = u.diff_id)
    ORDER BY 1 ON CONFLICT DO NOTHING;
    WITH claimed AS (
        INSERT INTO fleet.image_facts (id, chain_id, os, architecture, variant, created, claimed_by)
        SELECT c.id, c.chain_id, c.os, c.architecture, c.variant, c.created, node.node_key
        FROM fleet.claims_in(node.node_key, facts) AS c
        ORDER BY c.id ON CONFLICT (id) DO NOTHING
        RETURNING id
    )
    INSERT INTO fleet.image_layers (id, position, layer_key)
    SELECT c.id, u.position - 1, l.layer_key
    FROM fleet.claims_in(node.node_key, facts) AS c
    JOIN claimed ON claimed.id = c.id
    CROSS JOIN LATERAL unnest(c.layers) WITH ORDINALITY AS u (diff_id, position)
    JOIN fleet.layers AS l ON l.diff_id = u.diff_id;
    UPDATE fleet.image_facts AS f SET confirmed_by = node.node_key
    FROM fleet.claims_in(node.node_key, facts) AS c
    WHERE f.id = c.id AND f.claimed_by <> node.node_key AND f.confirmed_by IS NULL
        AND fleet.claim_of(f) = to_jsonb(c);
    INSERT INTO fleet.fact_conflicts (id, node_key, claim, claimed_at)
    SELECT c.id, node.node_key, to_jsonb(c), clock_timestamp()
    FROM fleet.claims_in(node.node_key, facts) AS c
    JOIN fleet.image_facts AS f ON f.id = c.id
    WHERE f.claimed_by <> node.node_key AND fleet.claim_of(f) <> to_jsonb(c)
    ORDER BY c.id ON CONFLICT (id, node_key) DO UPDATE SET claim = excluded.claim, claimed_at = excluded.claimed_at;
    UPDATE fleet.nodes AS n SET layers_added = n.layers_added + described WHERE n.node_key = node.node_key;
END $$;

-- Takes the references that the node cannot read, all of them, with the hash that hello_v1 will return.
CREATE FUNCTION fleet.incomplete_v1(p_hash bytea, p_references text[], p_errors text[], p_since timestamptz[])
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    node fleet.nodes := fleet.lock_node();
BEGIN
    PERFORM fleet.require_arrays(
        1000,
        ARRAY[cardinality(p_references), cardinality(p_errors), cardinality(p_since)],
        ARRAY[array_ndims(p_references), array_ndims(p_errors), array_ndims(p_since)],
        pg_column_size(p_references) + pg_column_size(p_errors)::bigint, fleet.setting('bytes_per_call'));
    IF p_hash IS NULL OR octet_length(p_hash) <> 32 OR EXISTS (
        SELECT FROM unnest(p_references, p_errors, p_since) AS r (reference, error, since)
        WHERE reference IS NULL OR error IS NULL OR since IS NULL OR octet_length(reference) > 2000) THEN
        PERFORM fleet.refuse('IK005', 'an incomplete reference lacks a field, or is too long');
    END IF;
    PERFORM fleet.require_times(p_since);
    DELETE FROM fleet.node_incomplete AS i WHERE i.node_key = node.node_key;
    INSERT INTO fleet.node_incomplete (node_key, reference, error, since)
    SELECT DISTINCT ON (r.reference) node.node_key, r.reference, left(r.error, 1000), r.since
    FROM unnest(p_references, p_errors, p_since) AS r (reference, error, since) ORDER BY r.reference;
    UPDATE fleet.nodes AS n SET incomplete_hash = p_hash WHERE n.node_key = node.node_key;
END $$;
