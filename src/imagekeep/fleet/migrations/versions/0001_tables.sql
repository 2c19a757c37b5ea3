-- The fleet's tables. Only functions and views of this schema use them; nobody else has rights on them.
--
-- A pointing is one distinct (name, image, target). Thousands of nodes share it, so a row of a node is 5 numbers and a
-- time. The two large tables have no foreign keys: only the functions write them, and a check of each row would double
-- the cost of a shipment.

CREATE TABLE fleet.settings (
    name text PRIMARY KEY,
    value bigint NOT NULL CHECK (value >= 0),
    meaning text NOT NULL
);

INSERT INTO fleet.settings (name, value, meaning) VALUES
    ('rows_per_call', 500, 'rows of a history in one call'),
    ('bytes_per_call', 8388608, 'bytes of a call with rows of a history, facts or incomplete references'),
    ('snapshot_rows', 100000, 'references of a node'),
    ('snapshot_bytes', 67108864, 'bytes of a snapshot'),
    ('snapshots_at_once', 8, 'snapshots that run at the same time'),
    ('epochs_per_hour', 3, 'epochs that a node may begin in an hour before it is conflicted'),
    ('pointings_per_node', 100000, 'new names, images and targets, longer names counting more, that a node may bring before it is pruned'),
    ('layers_per_node', 1000000, 'layers of images that a node may describe before it is pruned'),
    ('layers_per_image', 1000, 'layers of an image'),
    ('hash_seconds', 3600, 'seconds after which a node''s state is compared by hash again');

CREATE TABLE fleet.nodes (
    node_key integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE CHECK (octet_length(name) BETWEEN 1 AND 253),
    role_name name NOT NULL UNIQUE,
    status text NOT NULL DEFAULT 'enrolled' CHECK (status IN ('enrolled', 'active', 'conflicted', 'revoked')),
    enrolled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    store_id text,
    epoch integer NOT NULL DEFAULT 0,
    sequence bigint NOT NULL DEFAULT 0,
    cursor_row bytea,          -- hash of the history row at `sequence`
    origin_sequence bigint,    -- the first row that the history had at the last snapshot, and its hash
    origin_row bytea,
    last_at timestamptz,       -- no later row is dated before this
    seen_at timestamptz,       -- when the node last had nothing that the centre lacked
    clamped bigint NOT NULL DEFAULT 0,  -- rows whose time was changed
    reported_at timestamptz,
    clock_offset interval,
    protocol integer,
    revision text,
    version text,
    watcher_connected_at timestamptz,
    oldest_verified_at timestamptz,
    state_hash bytea,
    hashed_at timestamptz,
    incomplete_hash bytea,
    pointings_added integer NOT NULL DEFAULT 0,
    layers_added integer NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE TABLE fleet.epochs (
    node_key integer NOT NULL REFERENCES fleet.nodes,
    epoch integer NOT NULL,
    began_at timestamptz NOT NULL,
    reason text NOT NULL CHECK (reason IN ('new', 'restored', 'reinstalled', 'gap', 'hash')),
    from_sequence bigint NOT NULL,
    store_id text NOT NULL,
    PRIMARY KEY (node_key, epoch)
);

CREATE TABLE fleet.images (
    image_key integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL CHECK (id ~ '^sha(256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})$'),
    size bigint,
    UNIQUE NULLS NOT DISTINCT (id, size)
);

CREATE TABLE fleet.image_facts (
    id text COLLATE "C" PRIMARY KEY,
    chain_id text,
    os text,
    architecture text,
    variant text,
    created text,
    claimed_by integer NOT NULL REFERENCES fleet.nodes,
    confirmed_by integer REFERENCES fleet.nodes,
    verified boolean NOT NULL DEFAULT false
);

CREATE TABLE fleet.fact_conflicts (
    id text COLLATE "C" NOT NULL,
    node_key integer NOT NULL REFERENCES fleet.nodes,
    claim jsonb NOT NULL,
    claimed_at timestamptz NOT NULL,
    PRIMARY KEY (id, node_key)
);

CREATE TABLE fleet.layers (
    layer_key integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    diff_id text COLLATE "C" NOT NULL UNIQUE
        CHECK (diff_id ~ '^sha(256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})$')
);

CREATE TABLE fleet.image_layers (
    id text COLLATE "C" NOT NULL,
    position integer NOT NULL,
    layer_key integer NOT NULL REFERENCES fleet.layers,
    PRIMARY KEY (id, position)
);
CREATE INDEX image_layers_by_layer ON fleet.image_layers (layer_key, id);

-- A btree cannot hold a name of 32 kB, which containerd allows; a hash index can.
CREATE TABLE fleet.names (
    name_key integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 65536),
    repository text COLLATE "C" GENERATED ALWAYS AS (
        CASE WHEN name !~ '^sha(256|384|512):[0-9a-f]+$'
            THEN regexp_replace(regexp_replace(name, '@[^@]*$', ''), ':[^:/]*$', '') END
    ) STORED,
    tag text COLLATE "C" GENERATED ALWAYS AS (
        CASE WHEN name !~ '^sha(256|384|512):[0-9a-f]+$'
            THEN substring(regexp_replace(name, '@[^@]*$', '') from ':([^:/]*)$') END
    ) STORED,
    digest text COLLATE "C" GENERATED ALWAYS AS (substring(name from '@([^@]*)$')) STORED,
    CONSTRAINT names_are_unique EXCLUDE USING hash (name WITH =)
);
CREATE INDEX names_by_repository ON fleet.names USING hash (repository);

CREATE TABLE fleet.targets (
    target_key integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest text COLLATE "C" NOT NULL UNIQUE
        CHECK (digest ~ '^sha(256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})$')
);

CREATE TABLE fleet.pointings (
    pointing_key integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name_key integer NOT NULL REFERENCES fleet.names,
    image_key integer NOT NULL REFERENCES fleet.images,
    target_key integer REFERENCES fleet.targets,
    brought_by integer NOT NULL,  -- the node that named it first
    UNIQUE NULLS NOT DISTINCT (name_key, image_key, target_key)
);
CREATE INDEX pointings_by_image ON fleet.pointings (image_key);
CREATE INDEX pointings_by_target ON fleet.pointings (target_key);

CREATE TABLE fleet.current_references (
    node_key integer NOT NULL,
    name_key integer NOT NULL,
    pointing_key integer NOT NULL,
    epoch integer NOT NULL,
    sequence bigint NOT NULL,
    valid_from timestamptz NOT NULL,
    said_at timestamptz,  -- the node's own time, where it is not valid_from
    pinned boolean NOT NULL,
    PRIMARY KEY (node_key, name_key)
);
CREATE INDEX current_references_by_pointing ON fleet.current_references (pointing_key, node_key) INCLUDE (pinned);
CREATE INDEX current_references_pinned ON fleet.current_references (pointing_key, node_key) WHERE pinned;

CREATE TABLE fleet.past_references (
    node_key integer NOT NULL,
    name_key integer NOT NULL,
    pointing_key integer NOT NULL,
    epoch integer NOT NULL,
    sequence bigint NOT NULL,
    to_sequence bigint,  -- of the row that ended it; null where a snapshot did
    valid_from timestamptz NOT NULL,
    valid_to timestamptz NOT NULL,
    said_at timestamptz,
    pinned boolean NOT NULL
) PARTITION BY RANGE (valid_to);
CREATE INDEX past_references_by_node ON fleet.past_references (node_key, valid_to);
CREATE INDEX past_references_by_pointing ON fleet.past_references (pointing_key, valid_to);
CREATE TABLE fleet.past_references_default PARTITION OF fleet.past_references DEFAULT;

CREATE TABLE fleet.node_incomplete (
    node_key integer NOT NULL REFERENCES fleet.nodes,
    reference text COLLATE "C" NOT NULL,
    error text NOT NULL,
    since timestamptz NOT NULL,
    PRIMARY KEY (node_key, reference)
);
