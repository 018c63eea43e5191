-- Who works on what. Instants are Unix milliseconds. Forward only: never edit, add a file.
--
-- Several coordinators of different versions may use these tables for the time of an upgrade:
-- columns are added, never renamed, and a function whose arguments change gets a new name.
--
-- Text compares by bytes ("C"), as everywhere else in the product, whatever the locale of the
-- database.

CREATE TABLE meta (
    key text COLLATE "C" PRIMARY KEY,
    value text COLLATE "C" NOT NULL
);

CREATE TABLE jobs (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id text COLLATE "C" NOT NULL UNIQUE,
    out text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    spec_json text COLLATE "C" NOT NULL,
    spec_sha256 text COLLATE "C" NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    reason text COLLATE "C",
    fault text COLLATE "C",
    priority integer NOT NULL DEFAULT 0,
    documents bigint NOT NULL DEFAULT 0,
    rows bigint NOT NULL DEFAULT 0,
    last_manifest bigint NOT NULL DEFAULT 0,
    sealed_version bigint,
    already_complete boolean NOT NULL DEFAULT false,
    created_at_ms bigint NOT NULL,
    planned_at_ms bigint,
    finished_at_ms bigint,
    -- Rows that its tenant was charged for.
    accounted_rows bigint NOT NULL DEFAULT 0,
    -- Rows of its widest shard: bounds a look for the shards that hold a row.
    widest bigint NOT NULL DEFAULT 0,
    UNIQUE (out, sequence)
);
-- One unfinished job a dataset.
CREATE UNIQUE INDEX jobs_unfinished ON jobs (out)
    WHERE state NOT IN ('done', 'canceled', 'failed');

-- Sums over shards, in several rows a job that are added up when read: every grant and commit
-- changes one, and with a single row they would wait for each other's disk. Half of each page
-- stays free, so that changes stay in it and touch no index.
CREATE TABLE job_counters (
    job_id text COLLATE "C" NOT NULL,
    slot smallint NOT NULL,
    pending bigint NOT NULL DEFAULT 0,
    leased bigint NOT NULL DEFAULT 0,
    committed bigint NOT NULL DEFAULT 0,
    published bigint NOT NULL DEFAULT 0,
    halved bigint NOT NULL DEFAULT 0,
    quarantined bigint NOT NULL DEFAULT 0,
    rows_ok bigint NOT NULL DEFAULT 0,
    rows_failed bigint NOT NULL DEFAULT 0,
    rows_skipped bigint NOT NULL DEFAULT 0,
    rows_published bigint NOT NULL DEFAULT 0,
    rows_quarantined bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (job_id, slot)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- No index but the key's, so that a heartbeat touches none; there are as many as workers.
CREATE TABLE sessions (
    session_id text COLLATE "C" PRIMARY KEY,
    worker_name text COLLATE "C" NOT NULL,
    node text COLLATE "C" NOT NULL,
    version text COLLATE "C" NOT NULL,
    engines_json text COLLATE "C" NOT NULL,
    devices_json text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    unhealthy boolean NOT NULL DEFAULT false,
    expires_at_ms bigint NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE TABLE shards (
    job_id text COLLATE "C" NOT NULL,
    shard_idx bigint NOT NULL,
    first_row bigint NOT NULL,
    -- Place in the queue: setbacks above, the position in the plan below.
    qkey bigint NOT NULL,
    not_before_ms bigint NOT NULL DEFAULT 0,
    parent bigint,
    part_bytes bigint,
    n_rows integer NOT NULL,
    plan_group integer NOT NULL,
    line_start integer NOT NULL,
    line_end integer NOT NULL,
    skip_rows integer NOT NULL,
    epoch integer NOT NULL DEFAULT 0,
    deaths integer NOT NULL DEFAULT 0,
    setbacks integer NOT NULL DEFAULT 0,
    rows_ok integer NOT NULL DEFAULT 0,
    rows_failed integer NOT NULL DEFAULT 0,
    rows_skipped integer NOT NULL DEFAULT 0,
    state text COLLATE "C" NOT NULL,
    isolate_json text COLLATE "C" NOT NULL DEFAULT '[]',
    part_key text COLLATE "C",
    part_sha256 text COLLATE "C",
    part_etag text COLLATE "C",
    winner text COLLATE "C",
    -- The node whose part was accepted; unknown where a manifest brought it.
    winner_node text COLLATE "C",
    PRIMARY KEY (job_id, shard_idx)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
-- The queue. Not the key's columns, or the planner walks shards that are done.
CREATE INDEX shards_pending ON shards (job_id, qkey) WHERE state = 'pending';
-- What the next manifest takes.
CREATE INDEX shards_committed ON shards (job_id, shard_idx) WHERE state = 'committed';
CREATE INDEX shards_out ON shards (job_id, shard_idx) WHERE state IN ('halved', 'quarantined');
-- A commit whose reply was lost finds what it had done.
CREATE INDEX shards_winner ON shards (winner) WHERE winner IS NOT NULL;
CREATE INDEX shards_rows ON shards (job_id, first_row);

-- Live ones only. No index on what a heartbeat changes.
CREATE TABLE leases (
    lease_id text COLLATE "C" PRIMARY KEY,
    session_id text COLLATE "C" NOT NULL,
    node text COLLATE "C" NOT NULL,
    job_id text COLLATE "C" NOT NULL,
    shard_idx bigint NOT NULL,
    epoch integer NOT NULL,
    granted_at_ms bigint NOT NULL,
    stage text COLLATE "C" NOT NULL,
    rows_done integer NOT NULL DEFAULT 0,
    rows_failed integer NOT NULL DEFAULT 0,
    in_flight_json text COLLATE "C" NOT NULL DEFAULT '[]',
    progressed_at_ms bigint NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX leases_shard ON leases (job_id, shard_idx);
CREATE INDEX leases_session ON leases (session_id);

-- Attempts that ended without a part.
CREATE TABLE attempts (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id text COLLATE "C" NOT NULL,
    shard_idx bigint NOT NULL,
    epoch integer NOT NULL,
    lease_id text COLLATE "C" NOT NULL,
    node text COLLATE "C" NOT NULL,
    ended text COLLATE "C" NOT NULL,
    charged boolean NOT NULL,
    message text COLLATE "C" NOT NULL,
    suspects_json text COLLATE "C" NOT NULL,
    ended_at_ms bigint NOT NULL
);
CREATE INDEX attempts_shard ON attempts (job_id, shard_idx);
CREATE INDEX attempts_deaths ON attempts (ended_at_ms) WHERE charged;

CREATE TABLE quarantine (
    job_id text COLLATE "C" NOT NULL,
    shard_idx bigint NOT NULL,
    first_row bigint NOT NULL,
    n_rows integer NOT NULL,
    plan_group integer NOT NULL,
    line_start integer NOT NULL,
    line_end integer NOT NULL,
    skip_rows integer NOT NULL,
    line_json text COLLATE "C" NOT NULL,
    deaths integer NOT NULL,
    message text COLLATE "C" NOT NULL,
    manifest bigint,
    PRIMARY KEY (job_id, shard_idx)
);

-- In slots, as job_counters: the same code comes with most commits of a job.
CREATE TABLE failures (
    job_id text COLLATE "C" NOT NULL,
    code text COLLATE "C" NOT NULL,
    slot smallint NOT NULL,
    count bigint NOT NULL,
    example text COLLATE "C" NOT NULL,
    noted_at_ms bigint NOT NULL,
    PRIMARY KEY (job_id, code, slot)
) WITH (fillfactor = 50);

CREATE TABLE tenants (
    tenant text COLLATE "C" PRIMARY KEY,
    weight double precision NOT NULL,
    used_rows double precision NOT NULL,
    accounted_at_ms bigint NOT NULL
);

-- Nodes that are not open, or were not once.
CREATE TABLE nodes (
    node text COLLATE "C" PRIMARY KEY,
    standing text COLLATE "C" NOT NULL,
    reason text COLLATE "C" NOT NULL,
    is_automatic boolean NOT NULL,
    since_ms bigint NOT NULL
);

-- Milliseconds a row took, in a ring by shard.
CREATE TABLE paces (
    job_id text COLLATE "C" NOT NULL,
    slot smallint NOT NULL,
    ms_per_row double precision NOT NULL,
    at_ms bigint NOT NULL,
    PRIMARY KEY (job_id, slot)
) WITH (fillfactor = 20);

-- What one coordinator does at a time.
CREATE TABLE duties (
    duty text COLLATE "C" PRIMARY KEY,
    holder text COLLATE "C" NOT NULL,
    expires_at_ms bigint NOT NULL
) WITH (fillfactor = 50);
