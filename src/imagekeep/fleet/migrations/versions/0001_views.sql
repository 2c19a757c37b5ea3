-- The contract: what readers may select. Columns are only ever added.

CREATE VIEW fleet.node_status AS
SELECT
    n.name AS node,
    n.status,
    n.epoch,
    n.sequence,
    n.reported_at,
    clock_timestamp() - n.reported_at AS silent_for,
    n.clock_offset,
    n.clamped AS clamped_rows,
    n.version,
    n.revision,
    n.store_id,
    n.watcher_connected_at,
    n.oldest_verified_at,
    n.hashed_at,
    (SELECT count(*) FROM fleet.epochs AS e WHERE e.node_key = n.node_key AND e.reason = 'hash') AS hash_repairs,
    (SELECT count(*) FROM fleet.node_incomplete AS i WHERE i.node_key = n.node_key) AS incomplete
FROM fleet.nodes AS n;
COMMENT ON VIEW fleet.node_status IS 'one row is a node: when it last reported, and how far its history is here';

CREATE VIEW fleet.node_epochs AS
SELECT n.name AS node, e.epoch, e.began_at, e.reason, e.from_sequence, e.store_id
FROM fleet.epochs AS e JOIN fleet.nodes AS n ON n.node_key = e.node_key;
COMMENT ON VIEW fleet.node_epochs IS 'one row is a time at which a node''s whole state was taken, and why';

CREATE VIEW fleet.node_references AS
SELECT
    n.name AS node,
    m.name AS reference,
    i.id AS image_id,
    t.digest AS target_digest,
    c.pinned,
    i.size,
    m.repository,
    m.tag,
    c.valid_from AS since,
    c.said_at
FROM fleet.current_references AS c
JOIN fleet.nodes AS n ON n.node_key = c.node_key
JOIN fleet.pointings AS p ON p.pointing_key = c.pointing_key
JOIN fleet.names AS m ON m.name_key = p.name_key
JOIN fleet.images AS i ON i.image_key = p.image_key
LEFT JOIN fleet.targets AS t ON t.target_key = p.target_key;
COMMENT ON VIEW fleet.node_references IS 'one row is a reference on a node, as last reported';

CREATE VIEW fleet.node_images AS
SELECT
    n.name AS node,
    i.id,
    jsonb_agg(m.name ORDER BY m.name) AS reference_names,
    i.size,
    bool_or(c.pinned) AS pinned,
    f.chain_id,
    f.os,
    f.architecture,
    f.variant,
    f.created
FROM fleet.current_references AS c
JOIN fleet.nodes AS n ON n.node_key = c.node_key
JOIN fleet.pointings AS p ON p.pointing_key = c.pointing_key
JOIN fleet.names AS m ON m.name_key = p.name_key
JOIN fleet.images AS i ON i.image_key = p.image_key
LEFT JOIN fleet.image_facts AS f ON f.id = i.id
GROUP BY n.name, i.id, i.size, f.chain_id, f.os, f.architecture, f.variant, f.created;
COMMENT ON VIEW fleet.node_images IS 'one row is an image on a node; what its config says is null until known';

CREATE VIEW fleet.tag_drift AS
SELECT reference, repository, tag, image_id, target_digest, nodes
FROM (
    SELECT d.*, min(variant) OVER (PARTITION BY reference) <> max(variant) OVER (PARTITION BY reference) AS drifts
    FROM (
        -- Nodes of two platforms have two images of one target, which is no drift.
        SELECT s.*, coalesce(target_digest, max(target_digest) OVER (PARTITION BY reference, image_id), image_id)
            AS variant
        FROM (
            SELECT m.name AS reference, m.repository, m.tag, i.id AS image_id, t.digest AS target_digest,
                sum(u.nodes)::bigint AS nodes
            FROM fleet.pointings AS p
            JOIN fleet.names AS m ON m.name_key = p.name_key
            JOIN fleet.images AS i ON i.image_key = p.image_key
            LEFT JOIN fleet.targets AS t ON t.target_key = p.target_key
            CROSS JOIN LATERAL (
                SELECT count(*) AS nodes FROM fleet.current_references AS c WHERE c.pointing_key = p.pointing_key
            ) AS u
            WHERE u.nodes > 0
            GROUP BY m.name, m.repository, m.tag, i.id, t.digest
        ) AS s
    ) AS d
) AS v
WHERE drifts;
COMMENT ON VIEW fleet.tag_drift IS 'one row is one of several targets that a reference has on the nodes';

CREATE VIEW fleet.layer_nodes AS
SELECT l.diff_id, n.name AS node, il.id AS image_id
FROM fleet.layers AS l
CROSS JOIN LATERAL (SELECT DISTINCT x.id FROM fleet.image_layers AS x WHERE x.layer_key = l.layer_key) AS il
JOIN fleet.images AS k ON k.id = il.id
CROSS JOIN LATERAL (  -- keys are told apart in a fraction of the time of names and ids
    SELECT DISTINCT c.node_key
    FROM fleet.pointings AS p
    JOIN fleet.current_references AS c ON c.pointing_key = p.pointing_key
    WHERE p.image_key = k.image_key
) AS d
JOIN fleet.nodes AS n ON n.node_key = d.node_key;
COMMENT ON VIEW fleet.layer_nodes IS 'one row is a layer, by its diff id, in an image on a node';

CREATE VIEW fleet.layer_images AS
SELECT l.diff_id, il.id AS image_id
FROM fleet.layers AS l JOIN fleet.image_layers AS il ON il.layer_key = l.layer_key;
COMMENT ON VIEW fleet.layer_images IS 'one row is a layer, by its diff id, of an image';

CREATE VIEW fleet.known_digests AS
SELECT id AS digest, 'image' AS kind FROM fleet.images
UNION ALL
SELECT digest, 'target' FROM fleet.targets
UNION ALL
SELECT diff_id, 'layer' FROM fleet.layers;
COMMENT ON VIEW fleet.known_digests IS 'one row is a digest, and what it is of; twice for an image of two sizes';

CREATE VIEW fleet.silent_nodes AS
SELECT node, status, reported_at, silent_for
FROM fleet.node_status
WHERE status <> 'revoked' AND (reported_at IS NULL OR silent_for > interval '1 hour');
COMMENT ON VIEW fleet.silent_nodes IS 'one row is a node that has not reported for an hour, or never';

CREATE VIEW fleet.node_conflicts AS
SELECT n.name AS node, 'epochs' AS kind, NULL AS image_id,
    (SELECT count(*) FROM fleet.epochs AS e WHERE e.node_key = n.node_key)
        || ' epochs: more than one store ships under this name' AS detail,
    (SELECT max(e.began_at) FROM fleet.epochs AS e WHERE e.node_key = n.node_key) AS at
FROM fleet.nodes AS n WHERE n.status = 'conflicted'
UNION ALL
SELECT n.name, 'hash', NULL, 'the state was unlike the node''s, and was taken again', e.began_at
FROM fleet.epochs AS e JOIN fleet.nodes AS n ON n.node_key = e.node_key WHERE e.reason = 'hash'
UNION ALL
SELECT n.name, 'facts', f.id, 'claims another config or other layers than ' || o.name, f.claimed_at
FROM fleet.fact_conflicts AS f
JOIN fleet.nodes AS n ON n.node_key = f.node_key
JOIN fleet.image_facts AS i ON i.id = f.id
JOIN fleet.nodes AS o ON o.node_key = i.claimed_by;
COMMENT ON VIEW fleet.node_conflicts IS 'one row is a disagreement: of two stores, of a hash, or about an image';

CREATE VIEW fleet.incomplete_references AS
SELECT n.name AS node, i.reference, i.error, i.since
FROM fleet.node_incomplete AS i JOIN fleet.nodes AS n ON n.node_key = i.node_key;
COMMENT ON VIEW fleet.incomplete_references IS 'one row is a reference that a node cannot read at its source';

-- Sizes are what nodes say: no sum of them may overflow.
-- One image after the other: a distinct count of all rows at once would not fit in work_mem.
CREATE VIEW fleet.image_totals AS
SELECT i.id AS image_id, sum(u.nodes)::bigint AS nodes,
    greatest(least(coalesce(sum(u.nodes::numeric * i.size), 0), 9223372036854775807), -9223372036854775807)::bigint AS bytes,
    (SELECT min(m.name) FROM fleet.images AS o
     JOIN fleet.pointings AS p ON p.image_key = o.image_key
     JOIN fleet.names AS m ON m.name_key = p.name_key WHERE o.id = i.id) AS reference
FROM fleet.images AS i
CROSS JOIN LATERAL (
    SELECT count(DISTINCT c.node_key) AS nodes
    FROM fleet.pointings AS p JOIN fleet.current_references AS c ON c.pointing_key = p.pointing_key
    WHERE p.image_key = i.image_key
) AS u
WHERE u.nodes > 0
GROUP BY i.id;
COMMENT ON VIEW fleet.image_totals IS 'one row is an image: how many nodes have it, and its bytes on all of them';

CREATE VIEW fleet.fleet_totals AS
SELECT
    (SELECT count(*) FROM fleet.nodes WHERE status <> 'revoked') AS nodes,
    (SELECT count(*) FROM fleet.silent_nodes) AS silent_nodes,
    (SELECT count(*) FROM fleet.nodes WHERE status = 'conflicted') AS conflicted_nodes,
    (SELECT count(*) FROM fleet.current_references) AS node_references,
    (SELECT count(*) FROM fleet.current_references WHERE pinned) AS pinned_references,
    count(*) AS images,
    coalesce(sum(t.nodes), 0)::bigint AS node_images,
    greatest(least(coalesce(sum(t.bytes), 0), 9223372036854775807), -9223372036854775807)::bigint AS bytes
FROM fleet.image_totals AS t;
COMMENT ON VIEW fleet.fleet_totals IS 'one row: the whole fleet in numbers';

-- The readers have no rights on the tables: these run as the owner, and only read.
CREATE FUNCTION fleet.node_references_at(p_node text, p_time timestamptz)
RETURNS TABLE (node text, reference text, image_id text, target_digest text, pinned boolean, size bigint,
               since timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT p_node, m.name, i.id, t.digest, r.pinned, i.size, r.valid_from
    FROM (
        SELECT c.pointing_key, c.pinned, c.valid_from FROM fleet.current_references AS c
        WHERE c.node_key = (SELECT node_key FROM fleet.nodes WHERE name = p_node) AND c.valid_from <= p_time
        UNION ALL
        SELECT c.pointing_key, c.pinned, c.valid_from FROM fleet.past_references AS c
        WHERE c.node_key = (SELECT node_key FROM fleet.nodes WHERE name = p_node)
            AND c.valid_to > p_time AND c.valid_from <= p_time
    ) AS r
    JOIN fleet.pointings AS p ON p.pointing_key = r.pointing_key
    JOIN fleet.names AS m ON m.name_key = p.name_key
    JOIN fleet.images AS i ON i.image_key = p.image_key
    LEFT JOIN fleet.targets AS t ON t.target_key = p.target_key
$$;
COMMENT ON FUNCTION fleet.node_references_at IS 'the references of a node as they were at a time';

CREATE FUNCTION fleet.nodes_with_image_at(p_image_id text, p_time timestamptz)
RETURNS TABLE (node text, reference text, pinned boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT n.name, m.name, r.pinned
    FROM fleet.images AS i
    JOIN fleet.pointings AS p ON p.image_key = i.image_key
    JOIN fleet.names AS m ON m.name_key = p.name_key
    CROSS JOIN LATERAL (
        SELECT c.node_key, c.pinned FROM fleet.current_references AS c
        WHERE c.pointing_key = p.pointing_key AND c.valid_from <= p_time
        UNION ALL
        SELECT c.node_key, c.pinned FROM fleet.past_references AS c
        WHERE c.pointing_key = p.pointing_key AND c.valid_to > p_time AND c.valid_from <= p_time
    ) AS r
    JOIN fleet.nodes AS n ON n.node_key = r.node_key
    WHERE i.id = p_image_id
$$;
COMMENT ON FUNCTION fleet.nodes_with_image_at IS 'the nodes that had an image at a time';

CREATE FUNCTION fleet.image_rollout(p_image_id text)
RETURNS TABLE (hour timestamptz, gained bigint, lost bigint, nodes bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH ranges AS (
        SELECT c.node_key, tstzrange(c.valid_from, NULL) AS held
        FROM fleet.images AS i JOIN fleet.pointings AS p ON p.image_key = i.image_key
        JOIN fleet.current_references AS c ON c.pointing_key = p.pointing_key WHERE i.id = p_image_id
        UNION ALL
        SELECT c.node_key, tstzrange(c.valid_from, c.valid_to)
        FROM fleet.images AS i JOIN fleet.pointings AS p ON p.image_key = i.image_key
        JOIN fleet.past_references AS c ON c.pointing_key = p.pointing_key WHERE i.id = p_image_id
    ), spans AS (  -- a node with two references to the image has it once
        SELECT unnest(range_agg(held)) AS span FROM ranges GROUP BY node_key
    ), steps AS (
        SELECT date_trunc('hour', lower(span), 'UTC') AS hour, 1 AS step FROM spans
        UNION ALL
        SELECT date_trunc('hour', upper(span), 'UTC'), -1 FROM spans WHERE NOT upper_inf(span)
    )
    SELECT s.hour, count(*) FILTER (WHERE s.step = 1), count(*) FILTER (WHERE s.step = -1),
        (sum(sum(s.step)) OVER (ORDER BY s.hour))::bigint
    FROM steps AS s GROUP BY s.hour ORDER BY s.hour
$$;
COMMENT ON FUNCTION fleet.image_rollout IS 'how many nodes gained and lost an image in each hour, and had it after it';
