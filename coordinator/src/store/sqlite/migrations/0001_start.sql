-- Who works on what. Instants are Unix milliseconds. Forward only: never edit, add a file.

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id TEXT NOT NULL UNIQUE,
    out TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    spec_json TEXT NOT NULL,
    spec_sha256 TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    fault TEXT,
    priority INTEGER NOT NULL DEFAULT 0,
    documents INTEGER NOT NULL DEFAULT 0,
    rows INTEGER NOT NULL DEFAULT 0,
    last_manifest INTEGER NOT NULL DEFAULT 0,
    sealed_version INTEGER,
    already_complete INTEGER NOT NULL DEFAULT 0,
    created_at_ms INTEGER NOT NULL,
    planned_at_ms INTEGER,
    finished_at_ms INTEGER,
    UNIQUE (out, sequence)
);
-- One unfinished job a dataset.
CREATE UNIQUE INDEX jobs_unfinished ON jobs (out)
    WHERE state NOT IN ('done', 'canceled', 'failed');

-- Sums over shards, in a row of their own: they change far more often than jobs.
CREATE TABLE job_counters (
    job_id TEXT PRIMARY KEY,
    pending INTEGER NOT NULL DEFAULT 0,
    leased INTEGER NOT NULL DEFAULT 0,
    committed INTEGER NOT NULL DEFAULT 0,
    published INTEGER NOT NULL DEFAULT 0,
    halved INTEGER NOT NULL DEFAULT 0,
    quarantined INTEGER NOT NULL DEFAULT 0,
    rows_ok INTEGER NOT NULL DEFAULT 0,
    rows_failed INTEGER NOT NULL DEFAULT 0,
    rows_skipped INTEGER NOT NULL DEFAULT 0,
    rows_published INTEGER NOT NULL DEFAULT 0,
    rows_quarantined INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE sessions (
    session_id TEXT PRIMARY KEY,
    worker_name TEXT NOT NULL,
    node TEXT NOT NULL,
    engines_json TEXT NOT NULL,
    state TEXT NOT NULL,
    expires_at_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX sessions_expiry ON sessions (expires_at_ms);

CREATE TABLE shards (
    job_id TEXT NOT NULL,
    shard_idx INTEGER NOT NULL,
    parent INTEGER,
    first_row INTEGER NOT NULL,
    n_rows INTEGER NOT NULL,
    plan_group INTEGER NOT NULL,
    line_start INTEGER NOT NULL,
    line_end INTEGER NOT NULL,
    skip_rows INTEGER NOT NULL,
    state TEXT NOT NULL,
    epoch INTEGER NOT NULL DEFAULT 0,
    deaths INTEGER NOT NULL DEFAULT 0,
    isolate_json TEXT NOT NULL DEFAULT '[]',
    not_before_ms INTEGER NOT NULL DEFAULT 0,
    qkey INTEGER NOT NULL,
    part_key TEXT,
    part_bytes INTEGER,
    part_sha256 TEXT,
    part_etag TEXT,
    rows_ok INTEGER NOT NULL DEFAULT 0,
    rows_failed INTEGER NOT NULL DEFAULT 0,
    rows_skipped INTEGER NOT NULL DEFAULT 0,
    winner TEXT,
    PRIMARY KEY (job_id, shard_idx)
) WITHOUT ROWID;
-- The queue. Not the key's columns, or the planner walks shards that are done.
CREATE INDEX shards_pending ON shards (job_id, qkey) WHERE state = 'pending';
CREATE INDEX shards_committed ON shards (job_id, qkey) WHERE state = 'committed';
-- A commit whose reply was lost finds what it had done.
CREATE UNIQUE INDEX shards_winner ON shards (winner) WHERE winner IS NOT NULL;
CREATE INDEX shards_rows ON shards (job_id, first_row);

CREATE TABLE leases (
    lease_id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    node TEXT NOT NULL,
    job_id TEXT NOT NULL,
    shard_idx INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    granted_at_ms INTEGER NOT NULL,
    stage TEXT NOT NULL,
    rows_done INTEGER NOT NULL DEFAULT 0,
    rows_failed INTEGER NOT NULL DEFAULT 0,
    in_flight_json TEXT NOT NULL DEFAULT '[]',
    progressed_at_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX leases_shard ON leases (job_id, shard_idx);
CREATE INDEX leases_session ON leases (session_id);
CREATE INDEX leases_progress ON leases (progressed_at_ms);

-- Attempts that ended without a part.
CREATE TABLE attempts (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id TEXT NOT NULL,
    shard_idx INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    lease_id TEXT NOT NULL,
    node TEXT NOT NULL,
    ended TEXT NOT NULL,
    charged INTEGER NOT NULL,
    message TEXT NOT NULL,
    suspects_json TEXT NOT NULL,
    ended_at_ms INTEGER NOT NULL
);
CREATE INDEX attempts_shard ON attempts (job_id, shard_idx);

CREATE TABLE quarantine (
    job_id TEXT NOT NULL,
    shard_idx INTEGER NOT NULL,
    first_row INTEGER NOT NULL,
    n_rows INTEGER NOT NULL,
    plan_group INTEGER NOT NULL,
    line_start INTEGER NOT NULL,
    line_end INTEGER NOT NULL,
    skip_rows INTEGER NOT NULL,
    line_json TEXT NOT NULL,
    deaths INTEGER NOT NULL,
    message TEXT NOT NULL,
    manifest INTEGER,
    PRIMARY KEY (job_id, shard_idx)
) WITHOUT ROWID;

CREATE TABLE failures (
    job_id TEXT NOT NULL,
    code TEXT NOT NULL,
    count INTEGER NOT NULL,
    example TEXT NOT NULL,
    PRIMARY KEY (job_id, code)
) WITHOUT ROWID;
